"""Python's garbage collector while a stage imports its libraries.

A stage makes hundreds of thousands of objects that stay, and the collector looks at all of them again and
again: a sixth of the time until the work begins. Before a training it goes back to its own pace, because what
a step leaves behind may hold large tensors.
"""

import gc

USUAL = gc.get_threshold()
IMPORTING = 50_000
"""New objects before the collector looks at the youngest (Python: 700)."""


def spare_imports() -> None:
    """Let the collector look seldom from now on."""
    gc.set_threshold(IMPORTING, *USUAL[1:])


def collect_as_usual() -> None:
    """Back to Python's own pace."""
    gc.set_threshold(*USUAL)
