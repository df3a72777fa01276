"""Ctrl-C and other signals that arrive where Python drops what they raise: they come again.

Python runs the handler of a signal between two instructions of the main thread, wherever that is. Within a
destructor that the garbage collector calls, what the handler raises is reported and dropped
(`sys.unraisablehook`): Ctrl-C is lost. With the heap of a stage a collection takes long enough for that to
happen now and then, and nobody presses twice where the signal came from a program.
"""

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

RAISED: Mapping[type[BaseException], int] = MappingProxyType(
    {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}
)
"""What the handlers of signals raise."""
AGAIN_SECONDS = 0.05
"""Until a dropped signal comes again; once more, where it then meets another destructor."""


@contextmanager
def heard(raised: Mapping[type[BaseException], int] = RAISED) -> Iterator[None]:
    """In the body, a signal whose exception is dropped comes again a moment later, until it is heard.

    `raised` names the signal by what its handler raises.
    """
    before = sys.unraisablehook

    def dropped(what: Any) -> None:
        number = raised.get(what.exc_type)
        if number is None or threading.current_thread() is not threading.main_thread():
            before(what)
        else:
            again = threading.Timer(AGAIN_SECONDS, _send, [number])
            again.daemon = True
            again.start()

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = before


def _send(number: int) -> None:
    """To the main thread, which it also wakes from a wait; not where no handler of ours is left for it."""
    main = threading.main_thread().ident
    if callable(signal.getsignal(number)) and main is not None:
        signal.pthread_kill(main, number)
