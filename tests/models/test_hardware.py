"""What a process keeps of the memory that it frees."""

import subprocess
import sys

import pytest

from tests.scratch import ROOT

PROGRAM = """
import resource, torch
from models.hardware import keep_freed_memory
keep_freed_memory()
def work():
    for _ in range(20):
        first, second = torch.empty(1_500_000).fill_(1), torch.empty(1_500_000).fill_(2)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is asked to keep memory")
def test_memory_that_was_freed_once_is_not_asked_for_anew() -> None:
    """12 MB are 2930 pages; without the call thousands are asked for, as a rule."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100
