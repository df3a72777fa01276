"""The course: several applications at once, in processes of their own, with one lock file in the end."""

import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import yaml
from prefect.states import Completed, Failed

from tasks import versioning
from tasks.pipeline import STAGE_NAMES
from tests.flows.conftest import command, entry
from tests.scratch import lock_entries, write_parameters

UPSTREAM = "artifacts/base/fine_tune"
APPLICATIONS = {
    "left": entry(starts_from=UPSTREAM),
    "right": entry(starts_from=UPSTREAM),
    "wrong": entry(source="nothing"),
    "after": entry(starts_from="artifacts/wrong/fine_tune"),
    "base": entry(),
}
"""Two start from one that is not asked for, in an order that is not theirs; one lacks its source."""


@pytest.fixture(scope="module")
def several(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of these applications, in which nothing has run."""
    root = tmp_path_factory.mktemp("course") / "project"
    shutil.copytree(template, root)
    write_parameters(root, {"edition": "sample", "mirror": "", "weights": {}, "applications": APPLICATIONS})
    (root / "nothing").mkdir()
    return root


@pytest.fixture(scope="module")
def ended(several: Path, prefect_server: str) -> subprocess.CompletedProcess[str]:
    """`python -m flows course` of all that was asked for, at most two at once."""
    asked = ("left", "right", "wrong", "after")
    return command(
        several, "flows", "course", *asked, "--workers", "2", check=False, PREFECT_API_URL=prefect_server
    )


def test_what_others_start_from_runs_once_and_first(
    several: Path, ended: subprocess.CompletedProcess[str]
) -> None:
    lines = ended.stdout.splitlines()
    for stage in STAGE_NAMES[:4]:
        assert sum(f"{stage}@base: ran" in line for line in lines) == 1, ended.stdout + ended.stderr
    assert any(line.split()[:3] == ["fine_tune@base", "4", "ran"] for line in lines)
    begun = next(number for number, line in enumerate(lines) if "left: started" in line)
    assert any("fine_tune@base: done" in line for line in lines[:begun])
    assert "evaluate@base" not in lock_entries(several)


def test_one_that_fails_stops_only_those_that_start_from_it(
    several: Path, ended: subprocess.CompletedProcess[str]
) -> None:
    assert ended.returncode == 1
    table = {line.split()[0]: line for line in ended.stdout.splitlines()[-6:]}
    assert list(table) == ["application", *sorted(list(table)[1:], key=list(table).index)]
    assert "failed: " in table["wrong"]
    assert "nothing" in table["wrong"]
    assert "skipped: starts from" in table["after"]
    assert "6 ran, 4 current" in table["left"]
    assert "error_rate" in table["right"]
    assert "Traceback" not in ended.stdout + ended.stderr
    assert "Traceback" in (several / ".practicum" / "logs" / "course" / "wrong.txt").read_text()
    assert not {"export@wrong", "download@after"} & set(lock_entries(several))


def test_the_lock_file_is_that_of_one_after_the_other(
    several: Path,
    ended: subprocess.CompletedProcess[str],
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_server: str,
) -> None:
    from flows.chain import run_application

    root = tmp_path / "project"
    shutil.copytree(template, root)
    shutil.copy(several / "params.yaml", root / "params.yaml")
    monkeypatch.chdir(root)
    run_application("left")
    done = lock_entries(several)
    assert {name: each for name, each in done.items() if name.endswith(("@left", "@base"))} == lock_entries(
        root
    )
    assert set(done) >= {f"{stage}@{name}" for stage in STAGE_NAMES for name in ("left", "right")}


def test_a_wrong_name_or_number_is_told_before_anything_starts(several: Path) -> None:
    done = command(several, "flows", "course", "left", "wright", check=False)
    assert (done.returncode, "did you mean 'right'" in done.stderr) == (1, True)
    done = command(several, "flows", "course", "base", "--workers", "0", check=False)
    assert (done.returncode, "at least 1" in done.stderr) == (1, True)
    assert done.stdout == ""


class Staged:
    """A worker whose members end as `play` says; it remembers how many ran at once."""

    def __init__(self, threads: ThreadPoolExecutor, play: Callable[[str], Any]) -> None:
        self.threads = threads
        self.play = play

    def submit(self, _: Any, parameters: dict[str, Any]) -> Any:
        return Ending(self.threads.submit(self.play, parameters["application"]))


class Ending:
    """What Prefect gives for a submitted task, of a state that is known."""

    def __init__(self, future: "Future[Any]") -> None:
        self.future = future

    def add_done_callback(self, call: Callable[[Any], None]) -> None:
        self.future.add_done_callback(lambda _: call(self))

    def wait(self) -> None:
        self.future.result()

    @property
    def state(self) -> Any:
        return self.future.result()

    def result(self) -> Any:
        return self.future.result().data


def run_staged(names: list[str], play: Callable[[str], Any], *, after: dict[str, str] | None = None) -> Any:
    """The rows, and how many workers were replaced, of members that two workers run."""
    from flows.course import Member, run_members
    from flows.progress import Board
    from flows.workers import Workers

    members = {
        name: Member(
            name=name, application=name, until="export", force=False, plan=(), at_rest=False,
            after=((after or {}).get(name, ""),) if (after or {}).get(name) else (),
        )
        for name in names
    }  # fmt: skip
    replaced: list[Any] = []

    def renew(dead: Any) -> Any:
        replaced.append(dead)
        return Staged(threads, play)

    with ThreadPoolExecutor() as threads, Board(len(members)) as board:
        free: list[Any] = [Staged(threads, play) for _ in range(2)]
        rows = list(run_members(members, Workers(free=free, renew=renew), board))
    return {row.name: row for row in rows}, len(replaced)


def test_never_more_at_once_than_there_are_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pair, now, most = Barrier(2, timeout=30), [0], [0]

    def play(_: str) -> Any:
        now[0] += 1
        most[0] = max(most[0], now[0])
        pair.wait()  # nobody ends before two have begun
        now[0] -= 1
        pair.wait()
        return Completed(data={"done": {"export": "ran"}, "metric": ""})

    rows, _ = run_staged(list("abcdef"), play)
    assert most == [2]
    assert [row.outcome for row in rows.values()] == ["done"] * 6


def test_a_process_that_dies_is_replaced_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def play(name: str) -> Any:
        if name == "killed":
            raise BrokenProcessPool("a child process terminated abruptly")
        if name == "wrong":
            return Failed(message="no such folder")
        return Completed(data={"done": {"export": "current"}, "metric": "accuracy 1"})

    after = {"second": "killed", "third": "second"}
    rows, replaced = run_staged(["killed", "second", "third", "wrong", "fine"], play, after=after)
    assert replaced == 1
    assert {name: (row.outcome, row.text) for name, row in rows.items()} == {
        "killed": ("failed", "its process died: killed, perhaps for memory"),
        "second": ("skipped", "starts from killed, which did not end"),
        "third": ("skipped", "starts from second, which did not end"),
        "wrong": ("failed", "no such folder"),
        "fine": ("done", "nothing to do: all 1 stages are current"),
    }


def test_starting_weights_are_a_member_of_their_own(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two applications that start from published weights fetch them once."""
    from flows.course import plan_members

    root = tmp_path / "project"
    shutil.copytree(template, root)
    parameters = {
        "edition": "sample", "mirror": "",
        "weights": {"pets": {"source": "sources/resnet18.yaml"}},
        "applications": {
            "pets": entry(starts_from="artifacts/weights/pets"),
            "bears": entry(starts_from="artifacts/weights/pets"),
            "later": entry(starts_from="artifacts/pets/fine_tune", judge="artifacts/bears/fine_tune"),
        },
    }  # fmt: skip
    write_parameters(root, parameters)
    members = plan_members(root, versioning.survey(root, ["export@later"]), ["later", "pets"])
    assert {name: (set(member.after), member.until) for name, member in members.items()} == {
        "later": ({"pets", "fine_tune@bears", "weights@pets"}, "export"),
        "pets": ({"weights@pets"}, "export"),
        "fine_tune@bears": ({"weights@pets"}, "fine_tune"),
        "weights@pets": (set(), "weights"),
    }
    assert [member.application for member in members.values()] == ["later", "pets", "pets", "bears"]


def test_how_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.course import sensible
    from tasks.parameters import Parameters

    threads = {"one": entry(), "two": entry(fine_tune={**entry()["fine_tune"], "threads": 4})}
    parameters = Parameters(edition="sample", mirror="", weights={}, applications=threads)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setenv("PRACTICUM_DEVICES", "")
    assert sensible(parameters, ["one"]) == 16
    assert sensible(parameters, ["one", "two"]) == 4
    monkeypatch.setenv("PRACTICUM_DEVICES", "0")
    assert sensible(parameters, ["one"]) == 2  # one on the device, one that prepares
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert sensible(parameters, ["two"]) == 1


def test_what_is_at_rest_is_given_to_nobody(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the member that starts from it wait for it; asked by force, it is work again."""
    from flows.course import plan_members

    root = tmp_path / "project"
    shutil.copytree(template, root)
    later = entry(starts_from="artifacts/mine/fine_tune")
    parameters = yaml.safe_load((root / "params.yaml").read_text())
    parameters["applications"]["later"] = later
    write_parameters(root, parameters)
    monkeypatch.chdir(root)
    command(root, "dvc", "repro", "fine_tune@mine")
    survey = versioning.survey(root, ["export@later"])
    members = plan_members(root, survey, ["later"])
    assert {name: (member.at_rest, member.after) for name, member in members.items()} == {
        "later": (False, ()),
        "fine_tune@mine": (True, ()),
    }
    survey = versioning.survey(root, ["export@later", "export@mine"])
    members = plan_members(root, survey, ["later", "mine"], force=True)
    assert [member.at_rest for member in members.values()] == [False, False]


def test_where_nothing_is_to_be_done_no_server_is_started(
    several: Path, ended: subprocess.CompletedProcess[str]
) -> None:
    nowhere = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    for line in (("course",), ("run",)):
        done = command(several, "flows", *line, "left", "right", **nowhere)
        rest = [
            line for line in done.stdout.splitlines() if "nothing to do: all 10 stages are current" in line
        ]
        assert [line.split()[0].strip(":") for line in rest] == ["left", "right"]
    done = command(several, "flows", "course", "left", "after", check=False, **nowhere)
    assert (done.returncode, "127.0.0.1:9" in done.stderr) == (1, True)
