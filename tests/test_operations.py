"""docs/operations.md as a newcomer follows it: every command, in order, in one shell, in a fresh clone."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.scratch import ROOT, git, plain
from tests.waiting import free_port

PAGE = ROOT / "docs" / "operations.md"
END = "end of block:"
STARTED_BY = "PRACTICUM_TEST_OF_OPERATIONS"
"""Marks every process that the commands start, also those that leave the shell's session."""


def blocks() -> Iterator[tuple[str, str]]:
    """Name (the section's title and a number) and commands of every block of the page."""
    title, count = "", 0
    for heading, commands in re.findall(
        r"^## (.*?)$|^```sh\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE
    ):
        if heading:
            title, count = heading, 0
        else:
            count += 1
            yield f"{title} {count}", commands


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this checkout with what is not committed yet; nothing has run in it."""
    folder = tmp_path_factory.mktemp("operations") / "practicum"
    git(ROOT, "clone", "--quiet", str(ROOT), str(folder))
    for name in filter(None, git(ROOT, "ls-files", "-z", "-m", "-o", "--exclude-standard").split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    git(folder, "config", "user.name", "newcomer")
    git(folder, "config", "user.email", "newcomer@example.org")
    return folder


@pytest.fixture(scope="module")
def shell(clone: Path) -> Iterator["subprocess.Popen[str]"]:
    """A shell in the clone, with ports and folders of its own; whatever it started ends with the test."""
    state = clone.parent / "state"
    own = {
        "HOME": str(state),
        "PREFECT_HOME": str(state / "prefect"),
        "PGDATA": str(state / "postgres"),
        "MLFLOW_PORT": str(free_port()),
        "PREFECT_SERVER_API_PORT": str(free_port()),
        STARTED_BY: str(os.getpid()),
    }
    state.mkdir()
    process = subprocess.Popen(
        ["bash"], cwd=clone, env=plain(**own), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    yield process
    for each in psutil.process_iter():
        try:
            if each.pid != os.getpid() and each.environ().get(STARTED_BY) == str(os.getpid()):
                each.kill()
        except psutil.Error:
            continue
    process.wait()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "commands"), [pytest.param(*each, id=each[0]) for each in blocks()])
def test_the_commands_work(shell: "subprocess.Popen[str]", name: str, commands: str) -> None:
    assert shell.stdin is not None
    assert shell.stdout is not None
    # As if typed, but that the first command that fails ends the block.
    shell.stdin.write(f"trap 'echo \"{END} $?\"; exit 1' ERR\nset -o pipefail\n{commands}\necho '{END} 0'\n")
    shell.stdin.flush()
    said = []
    for line in shell.stdout:
        said.append(line)
        if line.startswith(END):
            break
    assert said, f"{name}: an earlier block ended the shell"
    assert said[-1] == f"{END} 0\n", "".join(said)
