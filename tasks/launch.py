"""Several processes for one stage: started by torchrun, watched, and none of them left behind.

The stage's own process holds the application, starts torchrun, and waits: `python -m tasks.launch`, which is
torchrun, starts the ranks: `python -m tasks.launch` again, each of which runs the stage's function. Under a
torchrun that somebody else started (several machines) the stage joins the others; then rank 0 holds the
application and writes, and the other ranks do neither.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psutil
import yaml

from tasks.interrupts import heard

if TYPE_CHECKING:
    from tasks.pipeline import Job, Receipt

JOB = "job.yaml"
PROCESSES = "PRACTICUM_PROCESSES"
"""Variable of the environment: how many processes train. Without it, one per accelerator."""
STARTER = "PRACTICUM_STARTER"
"""Variable of the environment: id of the process without which a rank, or torchrun, shall not live on."""
LOOK_SECONDS = 0.5
"""Between looks at that process."""
GRACE_SECONDS = 10
"""For ranks that were told to stop, to say so to the tracking server; Prefect gives a flow 30."""
FAULTS: Mapping[str, type[Exception]] = {
    each.__name__: each for each in (ValueError, OSError, FloatingPointError, MemoryError)
}
"""Errors of a rank that the stage raises as its own: those that carry their message."""
LOST = "LostError"
"""The error of a rank that lost another one: never the reason."""


def launched() -> bool:
    """Whether this process is one of several that torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "LOCAL_RANK" in os.environ


def follows() -> bool:
    """Whether another process of the same launch leads: holds the application, writes and records."""
    return launched() and os.environ["RANK"] != "0"


@contextmanager
def aside() -> Iterator[Path]:
    """For a process that only helps: a folder to write into, and silence, as the leading one speaks."""
    with (
        TemporaryDirectory(prefix="practicum-") as folder,
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
    ):
        yield Path(folder)


def asked() -> int | None:
    """What PRACTICUM_PROCESSES says; None where it says nothing. ValueError where it is no number from 1."""
    wanted = os.environ.get(PROCESSES)
    if wanted is not None and not (wanted.isdecimal() and int(wanted)):
        raise ValueError(f"{PROCESSES} is {wanted!r}: give a whole number from 1")
    return None if wanted is None else int(wanted)


def processes() -> int:
    """How many to start: 1 in a rank, else what PRACTICUM_PROCESSES says, else one per visible accelerator.

    ValueError where the variable is no number from 1, or more than there are accelerators.
    """
    wanted = asked()
    if launched() or wanted == 1:
        return 1
    import torch

    accelerators = torch.cuda.device_count()
    if wanted is not None and accelerators and wanted > accelerators:
        raise ValueError(
            f"{PROCESSES} is {wanted}, but {accelerators} accelerators are visible, one for each process;"
            " CUDA_VISIBLE_DEVICES='' hides them all, to train on the processor"
        )
    return max(accelerators, 1) if wanted is None else wanted


def launch(job: "Job", count: int) -> "Receipt":
    """Run the job's stage in `count` processes; the first one's receipt.

    Raises what a rank raised where that is a fault of the input, ChildProcessError where one was killed,
    RuntimeError with its traceback as a note otherwise. However it ends, no process is left: torchrun and the
    ranks end themselves also where this process is killed.
    """
    from tasks.pipeline import Receipt

    with TemporaryDirectory(prefix="practicum-") as name:
        folder = Path(name)
        (folder / JOB).write_text(yaml.safe_dump(_written(job), sort_keys=False))
        torchrun = subprocess.Popen(
            [sys.executable, "-m", "tasks.launch", str(folder), str(count)],
            env=_environment(job),
            start_new_session=True,  # Ctrl-C is for this process, which stops the others in order
        )
        try:
            status = torchrun.wait()
        finally:
            _stop(torchrun)
        if status:
            raise _reason(folder, count, status)
        return Receipt(**json.loads((folder / "receipt.json").read_text()))


def _environment(job: "Job") -> dict[str, str]:
    """Of the ranks: the code that runs here, and gloo on the loopback."""
    loopback = [
        name
        for name, addresses in psutil.net_if_addrs().items()
        if any(each.address == "127.0.0.1" for each in addresses)
    ]
    paths = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return {
        "OMP_NUM_THREADS": str(job.block.threads),
        **({"GLOO_SOCKET_IFNAME": loopback[0]} if loopback else {}),
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        STARTER: str(os.getpid()),
    }


def _stop(torchrun: "subprocess.Popen[bytes]") -> None:
    """Torchrun tells the ranks to stop, waits for them, kills those that do not."""
    if torchrun.poll() is None:
        torchrun.terminate()
        try:
            torchrun.wait(GRACE_SECONDS + 5)
        except subprocess.TimeoutExpired:
            torchrun.kill()  # the ranks see it
            torchrun.wait()


def _reason(folder: Path, count: int, status: int) -> Exception:
    """Why the launch failed, of all that its processes left behind."""
    told = [json.loads(path.read_text()) for path in sorted(folder.glob("rank-*.json"))]
    first = next((each for each in told if each["kind"] != LOST), None)
    if first is not None:
        kind = FAULTS.get(first["kind"])
        error = (kind or RuntimeError)(
            first["message"] if kind else f"rank {first['rank']}: {first['message']}"
        )
        error.add_note(f"In rank {first['rank']} of {count}:\n{first['traceback']}")
        return error
    path = folder / "ended.json"
    ended: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    # torchrun stops those that are left by SIGTERM: another signal came first
    killed = sorted((code == -signal.SIGTERM, rank, -code) for rank, code in ended.items() if code < 0)
    if not killed:
        return ChildProcessError(f"the {count} processes ended with status {status} and gave no reason")
    _, rank, number = killed[0]
    return ChildProcessError(
        f"rank {rank} of {count} was killed by {signal.Signals(number).name}, the others were stopped;"
        " if nobody killed it, memory ran out: lower fine_tune.batch_size. The same command continues an"
        " unfinished training"
    )


def main(arguments: list[str]) -> int:
    """`FOLDER COUNT`: be torchrun for so many ranks. `FOLDER`: be one of them."""
    _end_with(int(os.environ[STARTER]))
    folder = Path(arguments[0])
    return _watch(folder, arguments[1]) if arguments[1:] else _work(folder)


def _watch(folder: Path, count: str) -> int:
    """Start the ranks and wait for them; where one fails, note who, and stop the others."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ[STARTER] = str(os.getpid())
    logging.disable()  # the stage tells what happened
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=int(count), max_restarts=0, shutdown_timeout=GRACE_SECONDS,
        run_id=folder.name, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1",
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", "tasks.launch", str(folder))
    except ChildFailedError as failed:
        ended = {rank: failure.exitcode for rank, failure in failed.failures.items()}
        (folder / "ended.json").write_text(json.dumps(ended))
        return 1
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0


def _work(folder: Path) -> int:
    """Run the stage as one rank; leave its receipt, or why there is none."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    rank = int(os.environ["RANK"])
    job = _read(yaml.safe_load((folder / JOB).read_text()))
    try:
        with heard(), aside() if rank else nullcontext():
            receipt = job.stage.run(job)
    except Exception as error:
        (folder / f"rank-{rank}.json").write_text(json.dumps(_told(error, rank)))
        return 1
    if not rank:
        (folder / "receipt.json").write_text(json.dumps(asdict(receipt)))
    return 0


def _written(job: "Job") -> dict[str, Any]:
    """A job as plain values; its entry and recipe follow from the parameters."""
    folders = {name: str(path) for name, path in vars(job.workspace).items() if isinstance(path, Path)}
    return {
        "stage": job.stage.name,
        "application": job.application,
        "parameters": job.parameters.model_dump(mode="python"),
        "workspace": folders,
        "borrowed": {stage: str(path) for stage, path in job.workspace.borrowed.items()},
        "output": str(job.output),
        "door": job.door,
    }


def _read(written: Mapping[str, Any]) -> "Job":
    """The same job again."""
    from tasks.parameters import Parameters
    from tasks.pipeline import Job, find_stage
    from tasks.workspace import Workspace

    parameters = Parameters.model_validate(written["parameters"])
    entry, recipe = parameters.application(written["application"])
    folders = {name: Path(path) for name, path in written["workspace"].items()}
    borrowed = {stage: Path(path) for stage, path in written["borrowed"].items()}
    return Job(
        stage=find_stage(written["stage"]), application=written["application"], entry=entry, recipe=recipe,
        parameters=parameters, workspace=Workspace(borrowed=borrowed, **folders),
        output=Path(written["output"]), door=written["door"],
    )  # fmt: skip


def _told(error: Exception, rank: int) -> dict[str, Any]:
    """An error as JSON."""
    known = next((name for name, kind in FAULTS.items() if isinstance(error, kind)), None)
    return {
        "rank": rank,
        "kind": known or type(error).__name__,
        "message": str(error) if known else f"{type(error).__name__}: {error}",
        "traceback": "".join(traceback.format_exception(error)),
    }


def _end_with(process: int) -> None:
    """Kill this process, and what it started in its session, as soon as `process` is not its parent."""

    def look() -> None:
        while os.getppid() == process:
            time.sleep(LOOK_SECONDS)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=look, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
