"""Threads and processes give the same answers, and processes leave with the one that started them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from data.images import decoders as subject
from data.images.cleaning import ImageCleaning, clean_images
from tests.jobs import encode, raw_of, scene, tar_of

FILES = {
    **{
        f"{'ab'[number % 2]}/{number:03d}.jpg": encode(scene(number, width=40, height=32))
        for number in range(90)
    },
    "a/cut.jpg": encode(scene(1, width=40, height=32))[:300],
    "b/none.jpg": b"",
}

HOLDER = """
import os, time
from data.images.decoders import decoders
with decoders(2) as pools:
    pool = pools.pool_for(10**6)
    print(*{task.result() for task in [pool.submit(os.getpid) for _ in range(20)]}, flush=True)
    time.sleep(60)
"""


def test_processes_take_over_and_answer_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = raw_of(tmp_path, {"x.tgz": tar_of(FILES)})
    block = ImageCleaning()
    by_threads = list(clean_images(raw, block, workers=2))
    assert len(by_threads) == len(FILES)
    started = []
    pool = subject._processes
    monkeypatch.setattr(subject, "_processes", lambda workers: started.append(workers) or pool(workers))
    monkeypatch.setattr(subject, "MANY", 20)
    assert list(clean_images(raw, block, workers=2)) == by_threads
    assert started == [2]


def test_one_worker_and_helpers_of_a_pool_keep_to_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def pids(workers: int) -> set[int]:
        with subject.decoders(workers) as pools:
            return {pools.pool_for(subject.MANY).submit(os.getpid).result()}

    assert pids(1) == {os.getpid()}
    assert pids(2) != {os.getpid()}
    monkeypatch.setitem(subject.multiprocessing.current_process()._config, "daemon", True)
    assert pids(2) == {os.getpid()}, "a daemonic process, as Dask's workers are, may have no children"


def test_a_killed_process_is_an_error_with_advice() -> None:
    killed = pytest.raises(RuntimeError, match="was killed, most likely because memory ran out")
    with killed, subject.decoders(2) as pools:
        pools.pool_for(subject.MANY).submit(_kill_own_process).result()


def _kill_own_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_no_process_outlives_the_one_that_started_it() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        answered = {int(pid) for pid in holder.stdout.readline().split()}
        helpers = psutil.Process(holder.pid).children(recursive=True)
        assert answered
        assert answered <= {each.pid for each in helpers}
        holder.kill()
    _, alive = psutil.wait_procs(helpers, timeout=20 * subject.LOOK)
    assert not alive
