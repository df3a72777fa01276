"""What clones share through the default DVC remote: a stage's outputs, and of which inputs they were made.

One entry of DVC's run cache and the files that it names travel for each stage, never the whole cache. A clone
in which a stage has the same inputs then restores it, and writes the same entry of `dvc.lock`, instead of
working.
"""

import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from tasks.parameters import nearest
from tasks.versioning import Survey, find, opened, reason, remote_failures
from tasks.workspace import checkout

ON_FAILURE = ("continue", "stop", "no")


def on_failure() -> Literal["continue", "stop", "no"]:
    """PRACTICUM_SHARE: `continue` (default) or `stop` where the remote fails, `no` to send nothing.

    ValueError for anything else.
    """
    wanted = os.environ.get("PRACTICUM_SHARE", "continue")
    if wanted not in ON_FAILURE:
        raise ValueError(f"PRACTICUM_SHARE is {wanted!r}{nearest(wanted, ON_FAILURE)}")
    return "stop" if wanted == "stop" else "no" if wanted == "no" else "continue"


def at_rest(root: Path, survey: Survey, names: Collection[str]) -> bool:
    """Whether nothing is to be done about the stages: all are current, and none waits to be sent."""
    return survey.current.issuperset(names) and not (survey.remote and unsent(root) & set(names))


def learn(root: Path, name: str) -> bool:
    """Ask the default remote what a stage's present inputs gave elsewhere; False where it does not answer.

    Only entries of the run cache are copied; `restore(pull=True)` then fetches the outputs.
    """
    from dvc.fs import generic
    from dvc.stage.cache import _can_hash, _get_stage_hash

    with opened(root) as repo:
        stage = find(repo, name)
        if not _can_hash(stage):
            return True
        stage.save_deps()
        here = repo.cache.legacy
        try:
            there = _shelf(repo)
            folder = there.fs.join(there.path, *_folder(_get_stage_hash(stage)))
            for entry in there.fs.find(folder) if there.fs.exists(folder) else ():
                generic.copy(
                    there.fs, entry, here.fs, here.fs.join(here.path, there.fs.relpath(entry, there.path))
                )
        except remote_failures() as error:
            print(f"DVC's remote does not answer ({reason(error)}); going on without it", file=sys.stderr)
            return False
        return True


def share(root: Path, name: str) -> bool:
    """Send a recorded stage to the default remote: first its outputs, then the entry that names them.

    False where it was not sent, with a message; the next run of the application tries again. OSError instead
    where PRACTICUM_SHARE is `stop`; the result stays recorded in this checkout either way.
    """
    from dvc.fs import generic
    from dvc.stage.cache import _can_hash, _get_cache_hash, _get_stage_hash
    from dvc.stage.serialize import to_single_stage_lockfile

    wanted = on_failure()
    if wanted == "no":
        return False
    waiting = _waiting(root) / name
    waiting.parent.mkdir(parents=True, exist_ok=True)
    waiting.touch()
    with opened(root) as repo:
        stage = find(repo, name)
        here = repo.cache.legacy
        try:
            repo.push(targets=[name])
            if _can_hash(stage):
                value = _get_cache_hash(to_single_stage_lockfile(stage))
                entry = (*_folder(_get_stage_hash(stage)), value)
                there = _shelf(repo)
                generic.copy(
                    here.fs, here.fs.join(here.path, *entry), there.fs, there.fs.join(there.path, *entry)
                )
        except remote_failures() as error:
            message = (
                f"{name}: DVC's remote did not take it ({reason(error)}); it is recorded here, and is sent"
                " by the next run or by `dvc push --run-cache`"
            )
            if wanted == "stop":
                raise OSError(message) from error
            print(message, file=sys.stderr)
            return False
    waiting.unlink()
    return True


def unsent(root: Path) -> set[str]:
    """Stages that the remote has not taken yet."""
    folder = _waiting(root)
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _waiting(root: Path) -> Path:
    return checkout(root).state / "unshared"


def _folder(key: str) -> tuple[str, str, str]:
    """Where DVC keeps what is known of one set of inputs."""
    return "runs", key[:2], key


def _shelf(repo: Any) -> Any:
    """The part of the default remote that holds the run cache."""
    from dvc.fs import HTTPFileSystem
    from dvc.stage.cache import RunCacheNotSupported

    shelf = repo.cloud.get_remote_odb(None, "push --run-cache", hash_name="md5-dos2unix")
    if isinstance(shelf.fs, HTTPFileSystem):
        raise RunCacheNotSupported(f"DVC keeps no run cache at a web address: {shelf.path}")
    return shelf
