"""The lease of an accelerator, between real processes; the devices are names, which need no accelerator."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.devices import leased, slots_per_device, visible_devices
from tasks.parameters import load_parameters
from tasks.pipeline import run_stage
from tasks.workspace import checkout

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import os, sys
from tasks.devices import leased
with leased(int(sys.argv[1])) as devices:
    print("holds", *devices, "sees", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.readline()
print("left, sees", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
if sys.stdin.readline():
    with leased() as devices:
        print("again", *devices, flush=True)
"""
Holder = subprocess.Popen[str]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[..., Holder]]:
    """Start a process that leases devices, and keeps them until it is told a line."""
    started: list[Holder] = []

    def start(devices: str = "0,1", count: int = 1, **environment: str) -> Holder:
        plain = {
            name: value for name, value in os.environ.items() if not name.startswith(("CUDA", "PRACTICUM"))
        }
        plain |= {"PRACTICUM_DEVICES": devices, "PRACTICUM_SLOTS": str(tmp_path / "slots"), **environment}
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(count)], cwd=ROOT, env=plain, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def heard(process: Holder) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: Holder) -> None:
    assert process.stdin is not None
    process.stdin.write("go on\n")
    process.stdin.flush()


def test_a_device_has_one_holder_and_the_next_waits(hold: Callable[..., Holder]) -> None:
    first, second = hold(), hold()
    said = {heard(first), heard(second)}
    assert said == {"holds 0 sees 0", "holds 1 sees 1"}
    third = hold()
    assert heard(third).startswith("waiting for an accelerator: 0, 1 in use")
    tell(first)
    assert heard(first) == "left, sees None"
    assert heard(third) in said


def test_the_slot_of_a_killed_holder_is_free(hold: Callable[..., Holder]) -> None:
    killed = hold("0")
    assert heard(killed) == "holds 0 sees 0"
    waiting = hold("0")
    assert heard(waiting).startswith("waiting")
    killed.kill()
    assert heard(waiting) == "holds 0 sees 0"


def test_slots_are_filled_device_by_device(hold: Callable[..., Holder]) -> None:
    said = []
    for _ in range(4):
        said.append(heard(hold(PRACTICUM_PER_DEVICE="2")))
    assert said == ["holds 0 sees 0", "holds 1 sees 1"] * 2
    assert heard(hold(PRACTICUM_PER_DEVICE="2")).startswith("waiting")


def test_several_devices_are_gathered_by_one_process_at_a_time(hold: Callable[..., Holder]) -> None:
    single = hold()
    assert heard(single) == "holds 0 sees 0"
    pairs = [hold(count=2), hold(count=2)]
    tell(single)
    said = [heard(pairs[0]), heard(pairs[1])]
    # One of them waits for the device of `single`, or for the other pair; both come to hold both in the end.
    for number, pair in enumerate(pairs):
        while not said[number].startswith("holds"):
            tell(pairs[1 - number])
            said[number] = heard(pair)
    assert said == ["holds 0 1 sees 0,1"] * 2


def test_a_process_stays_with_the_device_that_cuda_has_seen(hold: Callable[..., Holder]) -> None:
    other = hold()
    assert heard(other) == "holds 0 sees 0"
    process = hold()
    assert heard(process) == "holds 1 sees 1"
    tell(other)
    assert heard(other) == "left, sees None"
    tell(process)
    assert heard(process) == "left, sees None"
    tell(process)
    assert heard(process) == "again 1"


def test_without_an_accelerator_nothing_is_leased(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PRACTICUM_SLOTS", str(tmp_path / "slots"))
    monkeypatch.setenv("PRACTICUM_DEVICES", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with leased() as devices:
        assert devices == ()
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert not (tmp_path / "slots").exists()


def test_processes_of_a_holder_share_its_lease(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PRACTICUM_SLOTS", str(tmp_path))
    monkeypatch.setenv("PRACTICUM_DEVICES", "7")
    with leased() as outer, leased() as inner:
        assert outer == inner == ("7",)


def test_the_devices_of_the_machine_are_limited_by_cuda_visible_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PRACTICUM_DEVICES", raising=False)
    installed = [["GPU-a1"], ["MIG-b1", "MIG-b2"], ["GPU-c1"]]  # the second one is divided
    monkeypatch.setattr("tasks.devices._installed", lambda: installed)
    for limit, visible in {
        "": (),
        "2,0": ("GPU-c1", "GPU-a1"),
        "1": ("MIG-b1", "MIG-b2"),
        "GPU-c": ("GPU-c1",),
        "9": (),
    }.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", limit)
        assert visible_devices() == visible
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_devices() == ("GPU-a1", "MIG-b1", "MIG-b2", "GPU-c1")


@pytest.mark.parametrize("wrong", ["0", "-1", "two", ""])
def test_slots_must_be_a_number(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("PRACTICUM_PER_DEVICE", wrong)
    with pytest.raises(ValueError, match="PRACTICUM_PER_DEVICE"):
        slots_per_device()


def test_stages_that_compute_hold_a_device(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Bare stages lease it as well: `dvc repro` and the flow run them in this one way."""
    monkeypatch.setenv("PRACTICUM_SLOTS", str(tmp_path / "slots"))
    monkeypatch.setenv("PRACTICUM_DEVICES", "0")
    parameters = load_parameters(project / "params.yaml")
    seen: dict[str, str] = {}
    from tasks.pipeline import STAGES, Job, Receipt, Stage

    def record(stage: Stage, job: Job) -> Receipt:
        seen[stage.name] = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
        return Receipt()

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(Stage, "run", record)
    for stage in STAGES:
        run_stage(stage.name, "shapes", workspace=checkout(project), parameters=parameters)
    assert {name for name, devices in seen.items() if devices == "0"} == {"fine_tune", "evaluate"}
