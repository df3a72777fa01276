"""Only one worker has an application: a claim on the Prefect server, with a lease that its holder renews.

A claim is a Prefect variable: the server lets only one of a name be made, and by its id nobody deletes or
renews any other than the one he has seen. Why not a concurrency limit: docs/decisions/0010-claims.md.
"""

import contextvars
import ctypes
import os
import platform
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import VariableCreate
from prefect.client.schemas.objects import StateType, Variable
from prefect.events import emit_event
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Crashed

from tasks.interrupts import heard

LEASE_SECONDS = 120.0
"""How long a claim outlives the last sign of its holder, unless PRACTICUM_LEASE_SECONDS says otherwise."""
SHORTEST = 2.0
"""Seconds. Below this, a renewal over a network may well come too late."""
RENEWALS = 4
"""Per lease. A holder that was not heard for three of them stops, before anybody may take over."""
RETRY_SECONDS = 0.5
"""Between attempts to renew: a busy server on SQLite refuses many a request at once."""
INSIST_SECONDS = 10.0
"""Until a holder that did not stop is told again: it may be cleaning up, or an `except:` was in the way."""
STOP = signal.SIGUSR1
"""What stops a holder in the main thread. An exception that is sent to a thread does not wake it from a wait.
And while it starts another one, Python 3.11 may give it to that one, which never begins and is waited for.
"""
GONE = "somebody else took the application over"
ALIVE = "practicum.run.alive"
"""The event that a run sends with each renewal; without it, the run is dead (flows/dead_runs.py)."""


class ClaimLostError(BaseException):
    """Raised in the middle of a holder's work, like Ctrl-C: libraries catch any `Exception` and go on."""


def lease_seconds() -> float:
    """Length of a lease. ValueError where PRACTICUM_LEASE_SECONDS is no number of at least two seconds."""
    written = os.environ.get("PRACTICUM_LEASE_SECONDS", str(LEASE_SECONDS))
    if not re.fullmatch(r"\d+(\.\d+)?", written) or float(written) < SHORTEST:
        raise ValueError(f"PRACTICUM_LEASE_SECONDS is {written!r}; it must be a number from {SHORTEST:g} on")
    return float(written)


class Claims:
    """What one run holds: at most one application at a time, so that no two runs wait for each other.

    A context manager; leaving it gives back what is held, and raises OSError where the work was stopped
    because the claim was lost. Without a Prefect server that stays, nobody else can know of a claim, and the
    locks of the checkout are all there is: then nothing is asked and nothing waits.
    """

    def __init__(self) -> None:
        self.lease = lease_seconds()
        self.shared = PREFECT_API_URL.value() is not None
        self._held: Variable | None = None
        self._turn = threading.Lock()
        """Held while the claim is renewed, given back or declared lost: never two of these at once."""
        self._over = threading.Event()
        self._lost: str | None = None
        self._holder = threading.get_ident()
        self._in_main = threading.current_thread() is threading.main_thread()
        self._listening = ExitStack()
        self._alive = threading.Thread(
            target=contextvars.copy_context().run, args=(self._stay_alive,), daemon=True, name="claims"
        )

    def __enter__(self) -> "Claims":
        if self.shared:
            if self._in_main:
                former = signal.signal(STOP, self._interrupt) or signal.SIG_DFL
                self._listening.callback(signal.signal, STOP, former)
                self._listening.enter_context(heard({ClaimLostError: STOP}))
            self._alive.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if not self.shared:
            return
        with suppress(ClaimLostError):  # sent in the last moment
            self._alive.join()
        self._listening.close()
        self.release()
        if self._lost is not None and error is not None:
            raise OSError(
                f"{self._lost}. The work was stopped; what is unfinished is kept, and the next run"
                " restores or continues it"
            ) from None

    def take(self, application: str) -> bool:
        """Hold the application and nothing else; True where somebody else held it before.

        Waits as long as the present holder renews its lease, and takes over once it has run out. A dead
        holder's flow run is marked Crashed. OSError where the server does not answer.
        """
        name = variable(application)
        if not self.shared or (self._held is not None and self._held.name == name):
            return False
        self.release()
        with reached(), get_client(sync_client=True) as client:
            waited = False
            while (made := self._make(client, name)) is None:
                waited = _await_end(client, name, application) or waited
        with self._turn:
            self._held = made
        return waited

    def release(self) -> None:
        """Give back what is held. Where the server does not answer, its lease runs out by itself."""
        with self._turn:
            held, self._held = self._held, None
            if held is None:
                return
            try:
                with _impatient(self.lease, retries=2) as client:
                    _delete(client, held)
            except httpx.HTTPError as error:
                print(f"{held.name} was not given back ({error}); its lease runs out", file=sys.stderr)

    def _make(self, client: SyncPrefectClient, name: str) -> Variable | None:
        try:
            return client.create_variable(
                VariableCreate(name=name, value=self._value(0), tags=["practicum-claim"])
            )
        except ObjectAlreadyExists:
            return None

    def _value(self, beat: int) -> dict[str, Any]:
        return {
            "holder": f"process {os.getpid()} on {platform.node()}",
            "flow_run": flow_run.get_id(),
            "lease": self.lease,
            "beat": beat,
        }

    def _stay_alive(self) -> None:
        """Of the thread: tell the server that this run lives, and renew what it holds."""
        pause = self.lease / RENEWALS
        run, related = flow_run.get_id(), _deployment()
        beat, renewed = 0, time.monotonic()
        with _impatient(2 * pause) as client:  # so that no answer is awaited beyond the last renewal but one
            while not self._over.wait(pause):
                beat += 1
                asked = time.monotonic()
                while (
                    reason := self._renew(client, beat)
                ) and time.monotonic() < renewed + self.lease - pause:
                    if reason == GONE or self._over.wait(RETRY_SECONDS):
                        break
                if reason and not self._over.is_set():
                    self._stop(reason)
                    return
                renewed = asked
                # Not before the renewal: what the server then writes would make it refuse the renewal.
                if run:
                    emit_event(ALIVE, {"prefect.resource.id": f"prefect.flow-run.{run}"}, related=related)

    def _renew(self, client: SyncPrefectClient, beat: int) -> str:
        """Why it failed; empty where it did not, or nothing is held."""
        with self._turn:
            if self._held is None:
                return ""
            try:
                client.request(
                    "PATCH", "/variables/{id}", path_params={"id": self._held.id},
                    json={"value": self._value(beat)},
                )  # fmt: skip
            except httpx.HTTPError as error:
                gone = isinstance(error, httpx.HTTPStatusError) and error.response.status_code == 404
                return GONE if gone else str(error) or type(error).__name__
            return ""

    def _stop(self, reason: str) -> None:
        """Stop the holder's thread where it is: it may be in the middle of a training."""
        with self._turn:
            if self._held is None:
                return
            self._lost, self._held = f"{self._held.name} is lost: {reason}", None
        print(self._lost, file=sys.stderr, flush=True)
        while not self._over.is_set():
            if self._in_main:
                signal.pthread_kill(self._holder, STOP)
            else:  # a worker of Dask runs tasks in other threads, which hear no signal
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._holder), ctypes.py_object(ClaimLostError)
                )
            self._over.wait(INSIST_SECONDS)

    def _interrupt(self, *_: Any) -> None:
        if not self._over.is_set():
            raise ClaimLostError


def variable(application: str) -> str:
    """Name of the variable: Prefect takes lower-case letters, digits, dashes and underscores."""
    return "claim-" + re.sub(r"[^a-z0-9_-]", lambda found: f"_{ord(found[0]):x}_", application)


def _await_end(client: SyncPrefectClient, name: str, application: str) -> bool:
    """Wait until the claim is given back or its lease has run out; False where there is none any more.

    Nobody's clock is compared with another's: a lease has run out when its whole length has passed here
    without a renewal.
    """
    seen, since, told = None, time.monotonic(), False
    while (held := client.read_variable_by_name(name)) is not None:
        value = held.value
        if not isinstance(value, dict) or not {"holder", "lease", "beat", "flow_run"} <= value.keys():
            raise ValueError(
                f"the Prefect variable {name} is no claim; delete it (`prefect variable delete`)"
            )
        if seen != (held.id, value["beat"]):
            seen, since = (held.id, value["beat"]), time.monotonic()
        elif time.monotonic() - since > value["lease"]:
            print(f"{application}: {value['holder']} is dead; taking over", flush=True)
            _delete(client, held)
            _close(client, value["flow_run"])
            return True
        if not told:
            print(f"{application}: waiting for {value['holder']}", flush=True)
            told = True
        time.sleep(min(value["lease"] / RENEWALS, 5.0) / 2)
    return told


def _delete(client: SyncPrefectClient, held: Variable) -> None:
    try:
        client.request("DELETE", "/variables/{id}", path_params={"id": held.id})
    except httpx.HTTPStatusError as error:
        if error.response.status_code != 404:
            raise


def _close(client: SyncPrefectClient, run: str | None) -> None:
    """Mark the flow run of a dead holder as Crashed, so that it does not say Running for ever."""
    if run is None or run == flow_run.get_id():
        return
    try:
        state = client.read_flow_run(UUID(run)).state
    except ObjectNotFound:
        return
    if state is not None and state.type == StateType.RUNNING:
        client.set_flow_run_state(run, Crashed(message="its worker died; another has taken over"), force=True)


def _deployment() -> list[dict[str, str]]:
    """The deployment of this flow run, for its events: what runs without one cannot be scheduled again."""
    from prefect.runtime import deployment

    if deployment.get_id() is None:
        return []
    return [
        {
            "prefect.resource.id": f"prefect.deployment.{deployment.get_id()}",
            "prefect.resource.role": "deployment",
        }
    ]


@contextmanager
def _impatient(seconds: float, *, retries: int = 0) -> Iterator[SyncPrefectClient]:
    """A client that soon gives up: its caller has its own idea of when to try again."""
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: retries}),
        get_client(sync_client=True, httpx_settings={"timeout": seconds}) as client,
    ):
        yield client


@contextmanager
def reached() -> Iterator[None]:
    """Turn a server that does not answer into one message."""
    try:
        yield
    except httpx.HTTPError as error:
        raise ConnectionError(
            f"the Prefect server {PREFECT_API_URL.value()} does not answer ({error});"
            " start it, or unset PREFECT_API_URL to work without one"
        ) from error
