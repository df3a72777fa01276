"""Signals that arrive within a destructor, in processes of their own."""

import subprocess
import sys

import pytest

START = """
import signal, sys, threading, time
from tasks.interrupts import heard

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

class Late:
    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START + program], capture_output=True, text=True, timeout=60, check=False
    )


def test_python_drops_what_a_handler_raises_in_a_destructor() -> None:
    """The reason for all this: without it the process goes on."""
    done = run("Late(signal.SIGINT); time.sleep(0.2); print('went on')")
    assert (done.returncode, done.stdout) == (0, "went on\n")
    assert "Exception ignored in" in done.stderr


@pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_it_comes_again(number: str, status: int) -> None:
    done = run(f"""
with heard():
    try:
        Late(signal.{number})
        threading.Event().wait(30)  # wakes
        print("went on")
    except KeyboardInterrupt:
        sys.exit(130)
""")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


def test_it_comes_until_it_is_heard() -> None:
    done = run("""
class Slow:
    def __del__(self):
        time.sleep(0.3)  # the second one falls in here

with heard():
    try:
        Late(signal.SIGINT)
        Slow()
        threading.Event().wait(30)
        print("went on")
    except KeyboardInterrupt:
        sys.exit(130)
""")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_other_faults_of_destructors_are_told_as_ever() -> None:
    done = run("""
class Broken:
    def __del__(self):
        raise ValueError("mine")

with heard():
    Broken()
""")
    assert done.returncode == 0
    assert "Exception ignored in" in done.stderr
    assert "ValueError: mine" in done.stderr


def test_it_does_not_come_where_nobody_listens_any_more() -> None:
    done = run("""
with heard():
    Late(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
time.sleep(0.2)
print("went on")
""")
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_afterwards_the_hook_is_what_it_was() -> None:
    done = run("""
hook = sys.unraisablehook
with heard():
    assert sys.unraisablehook is not hook
assert sys.unraisablehook is hook
""")
    assert done.returncode == 0, done.stderr
