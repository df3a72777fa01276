"""Messages for MLflow, in order: what could not be sent is a file in the outbox, and is sent before anything
else once the server answers again."""

import json
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from filelock import FileLock

from tasks.store import Message, RefusedError, Store, UnreachableError

RETRY_SECONDS = 30.0
"""Pause between attempts at a server that is down, so that training does not wait for it at every epoch."""
PATIENCE = 10
"""A pause is at least so many times as long as the attempt took: a server that hangs costs little."""
PUT_OFF_SECONDS = 600.0
"""Pause for one message that fails although the server answers: the place of its files may be down."""


class Outbox:
    """Sends messages in order; keeps those that do not arrive as files, or stops, as configured."""

    def __init__(self, store: Store, folder: Path, *, on_failure: Literal["continue", "stop"]) -> None:
        self.store = store
        self.folder = folder
        self.on_failure = on_failure
        self._again = 0.0
        self._put_off: dict[Path, float] = {}

    def post(self, message: Message, *, now: bool = False, keep: bool = True) -> None:
        """Send, after everything that waits. `now` tries a server that was just found down.

        What does not arrive waits in the outbox, unless `keep` says that it means nothing later. Where
        `on_failure` is `stop`: UnreachableError, or RefusedError for a message that MLflow does not take.
        """
        if not now and time.monotonic() < self._again:
            if keep:
                self._keep(message)
            return
        began = time.monotonic()
        try:
            self.flush()
            self.store.send(message)
        except UnreachableError as error:
            if self.on_failure == "stop":
                raise
            if not self._again:
                print(f"{error}. Going on; what is not sent waits in {self.folder}", file=sys.stderr)
            ended = time.monotonic()
            self._again = ended + max(RETRY_SECONDS, PATIENCE * (ended - began))
            if keep:
                self._keep(message)
        except RefusedError as error:
            if self.on_failure == "stop":
                raise
            if keep:
                self._refuse(self._keep(message), error)
        else:
            self._again = 0.0

    def flush(self) -> int:
        """Send what waits for this store, oldest first; returns how many. Raises as `Store.send` does.

        A message that is refused is put aside, and one that fails although the server answers goes on
        waiting: neither may hold up those behind it.
        """
        sent = 0
        if not self.waiting():
            return sent
        with FileLock(self.folder / ".lock"):
            for file in self.waiting():
                if time.monotonic() < self._put_off.get(file, 0.0):
                    continue
                content = json.loads(file.read_text())
                if content.pop("uri") != self.store.uri:
                    continue
                if content.get("once") is not None:
                    content["once"] = tuple(content["once"])
                try:
                    self._send_late(Message(**content))
                except RefusedError as error:
                    self._refuse(file, error)
                    continue
                except UnreachableError:
                    if not self.store.answers():
                        raise
                    self._put_off[file] = time.monotonic() + PUT_OFF_SECONDS
                    continue
                file.unlink()
                shutil.rmtree(file.with_suffix(""), ignore_errors=True)
                sent += 1
        return sent

    def _send_late(self, message: Message) -> None:
        try:
            self.store.send(message, late=True)
            return
        except UnreachableError:
            if not self.store.answers():
                raise
        self.store.send(message, late=True)  # the database's connections may have been cut only just now

    def _refuse(self, file: Path, error: OSError) -> None:
        aside = file.rename(file.with_suffix(".refused"))
        print(f"{error}. It is kept in {aside} and not sent again", file=sys.stderr)

    def waiting(self) -> list[Path]:
        """Messages that were not sent, oldest first."""
        return sorted(self.folder.glob("*.json"))

    def refused(self) -> list[Path]:
        """Messages that were put aside."""
        return sorted(self.folder.glob("*.refused"))

    def _keep(self, message: Message) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{time.time_ns()}-{os.getpid()}.json"
        copies = []
        for number, (path, folder) in enumerate(message.files):  # a stage's folder moves when it is whole
            copy = file.with_suffix("") / str(number) / Path(path).name
            copy.parent.mkdir(parents=True)
            if Path(path).is_dir():
                shutil.copytree(path, copy)
            else:
                shutil.copy(path, copy)
            copies.append((str(copy), folder))
        content = {"uri": self.store.uri, **asdict(message), "files": copies}
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(content))
        return partial.rename(file)
