"""One entry of `dvc.lock` is written as DVC would have written the whole file."""

import shutil
from pathlib import Path

import pytest
import yaml
from dvc.dvcfile import Lockfile

from tasks import versioning
from tasks.lock_file import recorded_digest, with_entry, write_entry
from tests.scratch import lock_entries, write_parameters
from tests.stand_in import dvc, make_stand_in

HEAD = "schema: '2.0'\nstages:\n"
A, B, C = "  a@x:\n    cmd: one\n", "  b@x:\n    cmd: two\n", "  c@x:\n    cmd: three\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that DVC has brought up to date, with parameters that are not easy to write."""
    root = make_stand_in(tmp_path_factory.mktemp("locked") / "project")
    parameters = yaml.safe_load((root / "params.yaml").read_text())
    parameters["applications"]["first"]["split"] = {
        "rate": 1e-7, "text": "two\nlines: 'quoted' ü " + "and long " * 20, "empty": [], "none": None,
        "nested": [{"a": [1, 2]}, "yes", "1.0", ""],
    }  # fmt: skip
    write_parameters(root, parameters)
    dvc(root, "repro")
    return root


def test_the_digest_of_an_output_is_read_without_the_rest(project: Path, tmp_path: Path) -> None:
    for name, entry in lock_entries(project).items():
        assert recorded_digest(project, name) == entry["outs"][0]["md5"]
    assert recorded_digest(project, "clean@nothing") is None
    assert recorded_digest(tmp_path, "clean@first") is None  # no lock yet


@pytest.mark.parametrize("name", ["download@first", "split@first", "evaluate@first", "export@second"])
def test_the_bytes_are_those_of_dvc(project: Path, name: str) -> None:
    """After an entry was changed, after it was removed, and in an empty file."""
    whole = (project / "dvc.lock").read_text()
    entries = lock_entries(project)
    changed = {**entries, name: {**entries[name], "cmd": "another"}}
    without = {key: value for key, value in entries.items() if key != name}
    for before in (changed, without, {}):
        text = yaml.safe_dump({"schema": "2.0", "stages": before}, sort_keys=False) if before else ""
        written = []
        for write in (by_dvc, by_us):
            (project / "dvc.lock").unlink()
            if text:
                (project / "dvc.lock").write_text(text)
                rewritten_by_dvc(project)
            write(project, name)
            written.append((project / "dvc.lock").read_text())
        (project / "dvc.lock").write_text(whole)
        assert written[0] == written[1]
        assert yaml.safe_load(written[1])["stages"][name] == entries[name]


def by_us(root: Path, name: str) -> None:
    with versioning.opened(root) as repo:
        stage = versioning.find(repo, name)
        stage.save()
        write_entry(repo, stage)


def by_dvc(root: Path, name: str) -> None:
    with versioning.opened(root) as repo:
        stage = versioning.find(repo, name)
        stage.save()
        Lockfile(repo, str(root / "dvc.lock")).dump(stage)


def rewritten_by_dvc(root: Path) -> None:
    """In DVC's own layout."""
    from dvc.utils.serialize import modify_yaml

    with modify_yaml(str(root / "dvc.lock")):
        pass


def test_an_entry_takes_the_place_of_its_own_lines() -> None:
    other = ["  b@x:\n", "    cmd: other\n", "    deps:\n", "    - path: p\n"]
    assert with_entry(HEAD + A + B + C, other) == HEAD + A + "".join(other) + C
    assert with_entry(HEAD + A + B, other) == HEAD + A + "".join(other)
    assert with_entry(HEAD + A + C, other) == HEAD + A + C + "".join(other)


@pytest.mark.parametrize(
    "text",
    ["", "stages:\n" + A, HEAD + A + "datasets:\n- name: x\n", HEAD + "# by hand\n" + A, HEAD + A[:-1]],
)
def test_another_layout_is_left_to_dvc(text: str) -> None:
    assert with_entry(text, ["  b@x:\n", "    cmd: two\n"]) is None


def test_a_lock_file_with_a_remark_keeps_it(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(project, root)
    lock = root / "dvc.lock"
    lock.write_text("# by hand\n" + lock.read_text())
    entries = lock_entries(root)
    by_us(root, "split@first")
    assert lock.read_text().startswith("# by hand\n")
    assert lock_entries(root) == entries
