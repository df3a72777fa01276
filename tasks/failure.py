"""One clear message for a fault of the input; the whole traceback goes to a file that the message names."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.interrupts import heard
from tasks.workspace import checkout


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn faults of input, disk, memory and Ctrl-C into one message on stderr and a non-zero exit.

    ValueError and OSError carry their own message; other exceptions are bugs and keep their traceback.
    """
    try:
        with heard():
            yield
    except KeyboardInterrupt:
        print(
            f"{what}: stopped by Ctrl-C. Nothing half-written was kept;"
            " an unfinished training continues with the same command.",
            file=sys.stderr,
        )
        raise SystemExit(130) from None
    except (ValueError, OSError, FloatingPointError) as error:
        _report(what, str(error))
    except MemoryError:
        _report(what, "out of memory; lower fine_tune.batch_size, or the size of an example")
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        _report(what, f"out of memory; lower fine_tune.batch_size, or the size of an example ({error})")


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says by this that the device or the machine has no memory left."""
    return any(words in str(error).lower() for words in ("out of memory", "can't allocate memory"))


def _report(what: str, message: str) -> None:
    log = checkout().state / "logs" / f"{what.replace(' ', '-').replace('/', '-')}.txt"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(traceback.format_exc())
        trace = f" (traceback: {log.relative_to(checkout().root)})"
    except OSError:  # a full disk must not hide the message
        trace = ""
    print(f"{what}: {message}{trace}", file=sys.stderr)
    raise SystemExit(1) from None
