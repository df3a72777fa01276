"""Training through the chain: the same bytes every time, also after a kill, and from other weights."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from tasks.checkpoint import Checkpoint, fingerprint
from tasks.parameters import load_parameters
from tasks.pipeline import run_stage
from tasks.workspace import Workspace, checkout
from tests import pictures
from tests.scratch import make_project, write_parameters

BEFORE = ("download", "clean", "split")


def prepared(folder: Path, **fine_tune: object) -> Workspace:
    """A project that is ready to train."""
    pictures.write_folder(folder / "shapes")
    entry = pictures.entry(fine_tune=fine_tune)
    workspace = checkout(make_project(folder / "project", pictures.parameters(shapes=entry)))
    for stage in BEFORE:
        run_stage(stage, "shapes", workspace=workspace)
    return workspace


def outputs(workspace: Workspace) -> dict[str, bytes]:
    folder = workspace.folder("shapes", "fine_tune")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_it_leaves_weights_facts_settings_and_history(trained: Workspace) -> None:
    folder = trained.folder("shapes", "fine_tune")
    assert sorted(path.name for path in folder.iterdir()) == [
        "facts.json", "history.parquet", "settings.json", "weights.safetensors",
    ]  # fmt: skip
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["classes"] == list(pictures.CLASSES)
    history = pq.read_table(folder / "history.parquet")
    assert history["epoch"].to_pylist() == [1, 2, 3, 4]
    assert history["train_loss"].to_pylist()[-1] < history["train_loss"].to_pylist()[0]
    assert not list((trained.state / "checkpoints").rglob("*.pt*"))


def test_the_same_inputs_give_the_same_bytes(trained: Workspace, tmp_path: Path) -> None:
    again = prepared(tmp_path)
    run_stage("fine_tune", "shapes", workspace=again)
    assert outputs(again) == outputs(trained)


def test_killed_anywhere_it_ends_in_the_same_bytes(trained: Workspace, tmp_path: Path) -> None:
    workspace = prepared(tmp_path)
    kills = 0
    for delay in (0.0, 0.1):  # seconds after the first sign of a new state
        before = states(workspace)
        running = subprocess.Popen(
            [sys.executable, "-m", "tasks", "fine_tune", "shapes"],
            cwd=workspace.root,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while running.poll() is None and states(workspace) == before:
            assert time.monotonic() < deadline, "no state was saved"
            time.sleep(0.01)
        time.sleep(delay)
        if running.poll() is not None:
            break
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        kills += not workspace.folder("shapes", "fine_tune").exists()
    assert kills >= 1, "every run was over before it could be killed"
    run_stage("fine_tune", "shapes", workspace=workspace)
    assert outputs(workspace) == outputs(trained)


def states(workspace: Workspace) -> list[tuple[str, int]]:
    folder = workspace.state / "checkpoints" / "shapes"
    return [(path.name, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.pt"))]


def test_a_state_of_other_settings_is_not_taken_up(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    Checkpoint(folder, "one").save({"step": torch.tensor(3)})
    assert Checkpoint(folder, "two").load() is None
    Checkpoint(folder, "two").save({"step": torch.tensor(1)})
    assert Checkpoint(folder, "one").load() is None, "only one unfinished training is kept"
    kept = Checkpoint(folder, "two").load()
    assert kept is not None
    assert int(kept["step"]) == 1


def test_a_network_of_another_application_is_where_it_starts(trained: Workspace, tmp_path: Path) -> None:
    pictures.write_folder(tmp_path / "shapes")
    start = trained.folder("shapes", "fine_tune")
    entry = {
        **pictures.entry(fine_tune={"phases": [{"epochs": 1, "rates": [1e-6], "freeze": "body"}]}),
        "starts_from": str(start),
    }
    workspace = checkout(make_project(tmp_path / "project", pictures.parameters(shapes=entry)))
    for stage in (*BEFORE, "fine_tune"):
        run_stage(stage, "shapes", workspace=workspace)
    theirs = load_file(start / "weights.safetensors")
    ours = load_file(workspace.folder("shapes", "fine_tune") / "weights.safetensors")
    convolutions = [name for name in ours if name.startswith("body") and ours[name].dim() == 4]
    assert convolutions
    for name in convolutions:
        assert torch.equal(ours[name], theirs[name]), name
    assert not torch.equal(ours["head.0.weight"], theirs["head.0.weight"])


@pytest.mark.parametrize(
    ("starts_from", "message"),
    [
        ("artifacts/nowhere/fine_tune", "starts_from is artifacts/nowhere/fine_tune, but .* does not exist"),
        ("params.yaml", "weights must be a .safetensors file"),
    ],
)
def test_starting_weights_that_are_none_are_refused(tmp_path: Path, starts_from: str, message: str) -> None:
    workspace = prepared(tmp_path)
    entry = {**pictures.entry(), "starts_from": starts_from}
    write_parameters(workspace.root, pictures.parameters(shapes=entry))
    with pytest.raises(ValueError, match=message):
        run_stage("fine_tune", "shapes", workspace=workspace)


def test_a_loss_that_is_not_finite_stops_with_its_step(tmp_path: Path) -> None:
    workspace = prepared(tmp_path, phases=[{"epochs": 3, "rates": [1e30], "schedule": "constant"}])
    with pytest.raises(FloatingPointError, match=r"is nan|is inf") as raised:
        run_stage("fine_tune", "shapes", workspace=workspace)
    assert "epoch 1, step" in str(raised.value)
    assert "lower the rates" in str(raised.value)
    assert not workspace.folder("shapes", "fine_tune").exists()


def test_out_of_memory_says_what_to_lower(tmp_path: Path) -> None:
    workspace = prepared(tmp_path, network={"name": "resnet", "widths": [4096, 4096]})
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30));"
        "from tasks.__main__ import main; sys.exit(main(['fine_tune', 'shapes']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=workspace.root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "out of memory; lower fine_tune.batch_size, or the size" in done.stderr


def test_the_fingerprint_follows_data_settings_and_start(tmp_path: Path) -> None:
    workspace = prepared(tmp_path)

    def identity() -> str:
        from tasks.pipeline import Job, find_stage

        parameters = load_parameters(workspace.root / "params.yaml")
        entry, recipe = parameters.application("shapes")
        return fingerprint(
            Job(
                stage=find_stage("fine_tune"), application="shapes", entry=entry, recipe=recipe,
                parameters=parameters, workspace=workspace, output=tmp_path, door="command",
            )
        )  # fmt: skip

    first = identity()
    assert identity() == first
    write_parameters(workspace.root, pictures.parameters(shapes=pictures.entry(fine_tune={"seed": 7})))
    assert identity() != first
    write_parameters(
        workspace.root, pictures.parameters(shapes=pictures.entry(split={"valid": 0.25, "seed": 7}))
    )
    run_stage("split", "shapes", workspace=workspace)
    assert identity() != first
