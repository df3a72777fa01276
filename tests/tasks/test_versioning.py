"""The flow door's way to DVC: what it records equals what `dvc repro` records."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import versioning
from tests.scratch import lock_entries, write_parameters
from tests.stand_in import dvc, make_stand_in, run


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_stand_in(tmp_path / "project")


def plan(root: Path, target: str) -> list[str]:
    return versioning.survey(root, [target]).plan(target)


def current(root: Path, target: str) -> frozenset[str]:
    return versioning.survey(root, [target]).current


def walk(root: Path, target: str) -> dict[str, str]:
    """The flow door without Prefect: ask, restore, run, record."""
    done = {}
    for name in plan(root, target):
        found = versioning.settle(root, name, ask=True, restored=True)
        if found.how == "stale":
            run(root, name)
            versioning.record(root, name, found.inputs)
        done[name] = "ran" if found.how == "stale" else found.how
    return done


def test_plan_walks_what_starts_from_names_first(project: Path) -> None:
    names = plan(project, "export@second")
    assert names.index("fine_tune@first") < names.index("fine_tune@second")
    assert "export@first" not in names
    assert len(names) == 10


def test_one_look_tells_what_dvc_itself_tells(project: Path) -> None:
    targets = ["export@first", "export@second"]
    for target in targets:
        walk(project, target)
    (project / "artifacts" / "second" / "split" / "value.txt").write_text("edited")
    survey = versioning.survey(project, targets)
    stale = {name for target in targets for name in survey.plan(target)} - survey.current
    assert stale == {"split@second", "fine_tune@second", "evaluate@second"}
    assert stale == set(json.loads(dvc(project, "status", "--json")))
    assert current(project, "clean@second") == {"download@second", "clean@second"}


def test_what_dvc_add_tracks_is_no_step_of_a_plan(project: Path) -> None:
    (project / "pictures").mkdir()
    (project / "pictures" / "a.txt").write_text("a")
    dvc(project, "add", "pictures")
    parameters = yaml.safe_load((project / "params.yaml").read_text())
    parameters["applications"]["first"]["source"] = "pictures"
    write_parameters(project, parameters)
    assert plan(project, "clean@first") == ["download@first", "clean@first"]


def test_parameters_are_parsed_anew_for_each_question(project: Path) -> None:
    walk(project, "split@first")
    assert "split@first" in current(project, "split@first")
    parameters = yaml.safe_load((project / "params.yaml").read_text())
    parameters["applications"]["first"]["split"] = {"n": 9}
    write_parameters(project, parameters)
    assert current(project, "split@first") == {"download@first", "clean@first"}


def test_both_doors_record_the_same(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(project, other)
    dvc(other, "repro", "export@second")
    assert set(walk(project, "export@second").values()) == {"ran"}
    assert lock_entries(project) == lock_entries(other)
    assert len(lock_entries(project)) == 10
    # each door finds the other's work done
    shutil.copy(other / "dvc.lock", project / "dvc.lock")
    assert set(walk(project, "export@second").values()) == {"current"}
    shutil.copy(project / "dvc.lock", other / "dvc.lock")
    assert "Data and pipelines are up to date" in dvc(other, "repro", "export@second")


def test_a_changed_parameter_and_back_restores_without_running(project: Path) -> None:
    walk(project, "export@first")
    first = lock_entries(project)
    parameters = yaml.safe_load((project / "params.yaml").read_text())
    parameters["applications"]["first"]["split"] = {"n": 2}
    write_parameters(project, parameters)
    assert walk(project, "export@first") == {
        "download@first": "current", "clean@first": "current", "split@first": "ran",
        "fine_tune@first": "ran", "evaluate@first": "ran", "export@first": "ran",
    }  # fmt: skip
    parameters["applications"]["first"]["split"] = {"n": 1}
    write_parameters(project, parameters)
    done = walk(project, "export@first")
    assert {name for name, how in done.items() if how == "restored"} == {
        "split@first", "fine_tune@first", "evaluate@first", "export@first",
    }  # fmt: skip
    assert lock_entries(project) == first


def test_outputs_that_dvc_does_not_hold_are_no_obstacle(project: Path) -> None:
    walk(project, "clean@first")
    made = project / "artifacts" / "first" / "clean" / "value.txt"
    text = made.read_text()
    made.write_text("made by hand")
    assert walk(project, "clean@first")["clean@first"] == "restored"
    assert made.read_text() == text
    # where nothing can be restored, what lies there stays
    (project / "recipes" / "shapes.py").write_text("# other\n")
    assert not versioning.restore(project, "clean@first")
    assert made.read_text() == text


def test_missing_outputs_come_back_from_the_cache(project: Path) -> None:
    walk(project, "split@first")
    shutil.rmtree(project / "artifacts" / "first" / "clean")
    assert walk(project, "split@first")["clean@first"] == "restored"
    assert (project / "artifacts" / "first" / "clean" / "value.txt").is_file()


def test_inputs_edited_during_a_run_are_not_recorded_as_its_origin(project: Path) -> None:
    walk(project, "clean@first")
    before = lock_entries(project)
    inputs = versioning.inputs(project, "split@first")
    run(project, "split@first")
    (project / "recipes" / "shapes.py").write_text("# edited while split ran\n")
    with pytest.raises(ValueError, match=r"recipes/shapes.py changed while split@first ran"):
        versioning.record(project, "split@first", inputs)
    assert lock_entries(project) == before
    assert "split@first" not in current(project, "split@first")


def test_the_lock_of_another_process_is_waited_for(project: Path) -> None:
    plan(project, "export@first")  # makes the folder of the lock
    holder = subprocess.Popen(
        [sys.executable, "-c", "import time, zc.lockfile; lock = zc.lockfile.LockFile('.dvc/tmp/lock');"
         " print('held', flush=True); time.sleep(5)"],
        cwd=project, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    assert current(project, "download@first") == set()  # DVC itself would give up after 3 s
    assert holder.wait() == 0


def test_a_lock_file_that_is_broken_off_leaves_the_former_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk(project, "clean@first")
    before = (project / "dvc.lock").read_bytes()
    write = Path.write_text

    def broken_off(path: Path, text: str, **how: Any) -> None:
        write(path, text[: len(text) // 2], **how)
        if path.name == "dvc.lock":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", broken_off)
        with pytest.raises(KeyboardInterrupt):
            walk(project, "split@first")
    assert (project / "dvc.lock").read_bytes() == before
    assert walk(project, "split@first")["split@first"] == "restored"  # the work itself was kept
    assert list(lock_entries(project)) == ["download@first", "clean@first", "split@first"]


def test_faults_are_named(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no stage 'export@frist'; did you mean 'export@first'"):
        plan(project, "export@frist")
    with pytest.raises(ValueError, match=r"no stage 'export@frist'; did you mean 'export@first'"):
        versioning.settle(project, "export@frist", ask=True, restored=True)
    with pytest.raises(ValueError, match="which does not exist"):
        versioning.inputs(project, "clean@first")
    with pytest.raises(ValueError, match="DVC cannot open"):
        plan(tmp_path, "export@first")


def test_the_digest_of_a_folder_is_the_one_in_the_lock_file(project: Path) -> None:
    walk(project, "clean@first")
    assert (
        versioning.folder_digest(project, "clean@first")
        == lock_entries(project)["clean@first"]["outs"][0]["md5"]
    )
    assert versioning.folder_digest(project, "clean@nothing") is None
