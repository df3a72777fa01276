"""DVC's side of the flow door: what is current, what can be restored, and recording what was run.

Every question opens the repository anew, because a stage that ran has changed what DVC's index would say, and
takes DVC's own lock, waiting for it. After either door the parsed `dvc.lock` is the same.
"""

import functools
import logging
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tasks.lock_file import write_entry
from tasks.parameters import nearest

STARTED = time.time()
"""When this process began to load code. The system's own record of it is rounded to a second or so, and would
call files edited that a clone has only just written."""

Inputs = Mapping[str, Any]
"""Hash of every dependency of a stage, by its name."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What one question to DVC tells of all stages that lead to some targets."""

    graph: Any
    """Names of the stages of `dvc.yaml`, each with an edge to every stage that it reads from."""
    current: frozenset[str]
    """Those on the way to the targets that need no run: same inputs, same command, outputs in place."""
    remote: bool
    """Whether the checkout has a default remote (`dvc remote add --default NAME URL`)."""

    def plan(self, target: str) -> list[str]:
        """Names of the stages that lead to `target`, upstream first, as `dvc repro TARGET` walks them.

        Weights, and another application's stages that `starts_from` names, are among them. ValueError with
        the nearest name where there is no such stage.
        """
        import networkx

        if target not in self.graph:
            raise ValueError(unknown(target, self.graph))
        return list(networkx.dfs_postorder_nodes(self.graph, target))


@contextmanager
def opened(root: Path) -> Iterator[Any]:
    """DVC's view of the checkout, with its lock held. ValueError where DVC finds fault with it."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo

    try:
        repo = Repo(str(root), _wait_for_lock=True)
    except DvcException as error:
        raise ValueError(f"DVC cannot open {root}: {error}") from None
    logging.getLogger("dvc").setLevel(
        logging.ERROR
    )  # it warns of every empty file and of every stage it restores
    try:
        # DVC's run cache resolves `dvc.yaml` from the current folder
        with chdir(root), lock_repo(repo), _parameters_parsed_once():
            yield repo
    except DvcException as error:
        raise ValueError(f"DVC: {reason(error)}") from error
    finally:
        repo.close()


def reason(error: BaseException) -> str:
    """What a failure of DVC says: it wraps causes, and the innermost says what is wrong."""
    parts = [str(error)]
    while error.__cause__ is not None:
        error = error.__cause__
        parts.append(str(error))
    return ": ".join(dict.fromkeys(part for part in parts if part))


@contextmanager
def _parameters_parsed_once() -> Iterator[None]:
    """DVC parses all of `params.yaml` anew for each stage: the square of the number of applications.

    While its lock is held and nothing runs, the file stays the same, and DVC only reads what it parsed.
    """
    from dvc.dependency import param
    from dvc.utils.serialize import load_path

    param.load_path = functools.cache(load_path)
    try:
        yield
    finally:
        param.load_path = load_path


def find(repo: Any, name: str) -> Any:
    """DVC's own object of a stage, without those of all others. ValueError with the nearest name else."""
    from dvc.dvcfile import PROJECT_FILE, load_file

    stages = load_file(repo, str(Path(repo.root_dir) / PROJECT_FILE)).stages
    if name not in stages:
        raise ValueError(unknown(name, stages))
    return stages[name]


def unknown(name: str, known: Collection[str]) -> str:
    """That there is no such stage, with a hint."""
    return f"dvc.yaml has no stage {name!r}{nearest(name, tuple(known))}"


def remote_failures() -> tuple[type[Exception], ...]:
    """What a remote that fails raises: of DVC, of the system, or of the S3 library, which neither wraps."""
    from botocore.exceptions import BotoCoreError, ClientError
    from dvc.exceptions import DvcException

    return DvcException, OSError, BotoCoreError, ClientError


def survey(root: Path, targets: Collection[str]) -> Survey:
    """One look at all stages that lead to the targets; none is looked at twice. ValueError as of `plan`."""
    import networkx

    with opened(root) as repo:
        stages = {stage.addressing: stage for stage in repo.index.stages}
        graph = networkx.relabel_nodes(repo.index.graph, {stage: name for name, stage in stages.items()})
        graph.remove_nodes_from([name for name, stage in stages.items() if not stage.cmd])  # of `dvc add`
        unchecked = Survey(graph=graph, current=frozenset(), remote=bool(repo.config["core"].get("remote")))
        needed = {name for target in targets for name in unchecked.plan(target)}
        return replace(unchecked, current=frozenset(name for name in needed if not stages[name].changed()))


def inputs(root: Path, name: str) -> Inputs:
    """What the stage would read now. ValueError names a dependency that does not exist."""
    with opened(root) as repo:
        return _inputs(find(repo, name))


def _inputs(stage: Any) -> dict[str, Any]:
    missing = [str(dependency) for dependency in stage.deps if not dependency.exists]
    if missing:
        raise ValueError(
            f"{stage.name} depends on {', '.join(missing)}, which does not exist;"
            f" `dvc repro {stage.name}` makes what comes before"
        )
    stage.save_deps()
    return {str(dependency): dependency.hash_info for dependency in stage.deps}


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What became of a stage without running it."""

    how: Literal["current", "restored", "stale"]
    inputs: Inputs
    """What it would read now, where it is stale."""


def settle(root: Path, name: str, *, ask: bool, restored: bool) -> Settled:
    """Try to be done with a stage without running it, for one question to DVC.

    `ask` whether it is current, then, with `restored`, bring back what its inputs once gave. ValueError names
    a dependency that does not exist.
    """
    with opened(root) as repo:
        stage = find(repo, name)
        if ask and not stage.changed():
            return Settled(how="current", inputs={})
        if restored and _restore(repo, stage, pull=False):
            return Settled(how="restored", inputs={})
        return Settled(how="stale", inputs=_inputs(stage))


def restore(root: Path, name: str, *, pull: bool = False) -> bool:
    """Bring back the outputs that these inputs once gave, from DVC's cache or, with `pull`, its remote.

    False, with nothing changed, where they were never made or are kept nowhere.
    """
    with opened(root) as repo:
        return _restore(repo, find(repo, name), pull=pull)


def _restore(repo: Any, stage: Any, *, pull: bool) -> bool:
    from dvc.stage.cache import RunCacheNotFoundError

    # Not `dry`, and hashes not saved beforehand: DVC would then compare them with themselves and find any
    # entry of the lock file current.
    with _aside([Path(out.fs_path) for out in stage.outs]) as keep_restored:
        try:
            repo.stage_cache.restore(stage, pull=pull)
        except RunCacheNotFoundError:
            return False
        except remote_failures() as error:
            if not pull:
                raise
            print(
                f"{stage.name}: DVC's remote gave nothing ({reason(error)}); running instead", file=sys.stderr
            )
            return False
        keep_restored()
    _record(stage)
    return True


@contextmanager
def _aside(paths: list[Path]) -> Iterator[Callable[[], None]]:
    """Rename what lies at `paths` out of the way; it comes back unless the function yielded is called.

    DVC asks at the terminal before it overwrites an output that it does not hold, and gives up without one.
    """
    moved = {path: path.with_name(f".{path.name}.previous") for path in paths if path.exists()}
    for path, other in moved.items():
        _remove(other)
        path.rename(other)
    kept: list[bool] = []
    try:
        yield lambda: kept.append(True)
    finally:
        for path, other in moved.items():
            if kept:
                _remove(other)
            else:
                _remove(path)
                other.rename(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def recorded(root: Path, name: str) -> Iterator[None]:
    """Record what the body makes, as `dvc repro` would; nothing where the body fails."""
    before = inputs(root, name)
    yield
    record(root, name, before)


def record(root: Path, name: str, before: Inputs) -> None:
    """`dvc commit` of what a stage has made out of `before`, for the lock file and the run cache.

    ValueError, with nothing recorded, where a dependency was edited while the stage ran: its result may rest
    on either version, so neither may be recorded as its origin, and the stage stays stale.
    """
    with opened(root) as repo:
        stage = find(repo, name)
        after = _inputs(stage)
        edited = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        edited = edited or _edited_since_start(root, stage)
        if edited:
            raise ValueError(
                f"{', '.join(edited)} changed while {name} ran; its result was not recorded: start again"
            )
        _record(stage)


def _record(stage: Any) -> None:
    stage.save()
    stage.commit()
    write_entry(stage.repo, stage)


def _edited_since_start(root: Path, stage: Any) -> list[str]:
    """Code that this process has loaded, and that was edited since: what ran is not what now stands there."""
    now = time.time()
    loaded = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    files = [Path(file) for file in loaded if file and Path(file).is_relative_to(root)]
    depended = [Path(dependency.fs_path) for dependency in stage.deps if dependency.protocol == "local"]
    return sorted(
        str(file.relative_to(root))
        for file in files
        if any(file.is_relative_to(path) for path in depended)
        and file.exists()
        and STARTED < file.stat().st_mtime <= now  # a time in the future is a clock that differs
    )


def folder_digest(root: Path, name: str) -> str | None:
    """DVC's hash of the first output of a stage as it lies there now; None where DVC does not know the stage.

    Does not take DVC's lock, so it can be asked while DVC runs a stage. What was recorded last is quicker to
    learn (`lock_file.recorded_digest`).
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo(str(root))
    except DvcException:
        return None
    try:
        output = find(repo, name).outs[0]
        return str(output.get_hash().value) if output.exists else None
    except (DvcException, ValueError):
        return None
    finally:
        repo.close()
