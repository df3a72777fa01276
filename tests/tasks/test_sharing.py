"""What one clone ran, another restores through the remote: a folder, and S3 by its API."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tasks import sharing, versioning
from tests import remotes
from tests.scratch import commit, git, lock_entries
from tests.stand_in import make_stand_in, run

STAGES = ["download@first", "clean@first", "split@first", "fine_tune@first"]


@pytest.fixture(params=["folder", "s3"])
def clones(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two clones that share only their remote."""
    project = make_stand_in(tmp_path / "project")
    with remotes.bucket() if request.param == "s3" else nullcontext() as address:
        if address is None:
            remotes.folder_remote(project)
        else:
            remotes.s3_remote(project, address)
        commit(project, "a remote")
        for name in ("a", "b"):
            git(tmp_path, "clone", "-q", "project", name)
        yield tmp_path / "a", tmp_path / "b"


def walk(root: Path, share: Callable[[Path, str], bool] = sharing.share) -> None:
    for name in STAGES:
        with versioning.recorded(root, name):
            run(root, name)
        share(root, name)


def test_what_one_clone_ran_another_restores_and_records_alike(clones: tuple[Path, Path]) -> None:
    one, other = clones
    walk(one)
    assert sharing.unsent(one) == set()
    for name in STAGES:
        assert not versioning.restore(other, name)
        assert sharing.learn(other, name)
        assert versioning.restore(other, name, pull=True)
    assert lock_entries(other) == lock_entries(one)
    assert not (other / "ran.txt").exists()
    made = Path("artifacts/first/fine_tune/value.txt")
    assert (other / made).read_text() == (one / made).read_text()
    assert git(other, "status", "--porcelain") == "?? dvc.lock"  # commits stay the user's


def test_only_what_the_stage_made_is_sent(tmp_path: Path) -> None:
    project = make_stand_in(tmp_path / "project")
    remotes.folder_remote(project)
    walk(project, share=lambda root, name: False)
    assert sharing.share(project, "split@first")
    runs = sorted(path for path in (tmp_path / "shelf" / "runs").rglob("*") if path.is_file())
    assert [path.read_text().splitlines()[0] for path in runs] == ["cmd: python -m tasks split first"]
    assert len(list((tmp_path / "shelf" / "files").rglob("*.dir"))) == 1


def test_nothing_is_known_of_other_inputs(clones: tuple[Path, Path]) -> None:
    one, other = clones
    walk(one)
    (other / "sources" / "none").write_text("changed\n")
    assert sharing.learn(other, "download@first")
    assert not versioning.restore(other, "download@first", pull=True)


@pytest.mark.parametrize("there", ["folder", "s3"])
def test_a_remote_that_fails_loses_nothing(
    there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_stand_in(tmp_path / "project")
    if there == "folder":
        remotes.folder_remote(project)
        (tmp_path / "shelf").write_text("no folder")
    else:
        remotes.s3_remote(project, "http://127.0.0.1:9")
    with versioning.recorded(project, "download@first"):
        run(project, "download@first")
    assert not sharing.share(project, "download@first")
    assert "download@first: DVC's remote did not take it" in capsys.readouterr().err
    assert sharing.unsent(project) == {"download@first"}
    assert "download@first" in lock_entries(project)
    if there == "s3":
        assert not sharing.learn(project, "download@first")
        assert "DVC's remote does not answer" in capsys.readouterr().err

    monkeypatch.setenv("PRACTICUM_SHARE", "stop")
    with pytest.raises(OSError, match="DVC's remote did not take it"):
        sharing.share(project, "download@first")

    if there == "folder":
        (tmp_path / "shelf").unlink()
        assert sharing.share(project, "download@first")
        assert sharing.unsent(project) == set()


def test_what_waits_to_be_sent_is_not_at_rest(tmp_path: Path) -> None:
    project = make_stand_in(tmp_path / "project")
    remotes.folder_remote(project)
    with versioning.recorded(project, "download@first"):
        run(project, "download@first")

    def at_rest(*names: str) -> bool:
        return sharing.at_rest(project, versioning.survey(project, ["clean@first"]), names)

    assert at_rest("download@first")
    assert not at_rest("download@first", "clean@first")
    (tmp_path / "shelf").write_text("no folder")
    assert not sharing.share(project, "download@first")
    assert not at_rest("download@first")


def test_sending_can_be_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_stand_in(tmp_path / "project")
    assert not versioning.survey(project, []).remote
    remotes.folder_remote(project)
    assert versioning.survey(project, []).remote
    monkeypatch.setenv("PRACTICUM_SHARE", "no")
    walk(project)
    assert not (tmp_path / "shelf").exists()
    monkeypatch.setenv("PRACTICUM_SHARE", "never")
    with pytest.raises(ValueError, match="PRACTICUM_SHARE is 'never'"):
        sharing.share(project, "download@first")
