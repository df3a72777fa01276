"""What tests of real servers need: a free port, and patience that ends."""

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE_SECONDS = 240.0
"""For anything that a server, a worker or a run does: a few seconds on a quiet machine."""


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def until(
    ask: Callable[[], T | None], what: str | Callable[[], object], *, seconds: float = PATIENCE_SECONDS
) -> T:
    """Ask until the answer is true; AssertionError, which says what was waited for, after so long."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what() if callable(what) else what}")
        time.sleep(0.1)
    return answer
