"""The collector looks seldom while a stage imports, and at its own pace in a training."""

import gc

from tasks.collector import IMPORTING, USUAL, collect_as_usual, spare_imports


def test_the_pace_changes_and_comes_back() -> None:
    assert gc.get_threshold() == USUAL
    spare_imports()
    try:
        assert gc.get_threshold() == (IMPORTING, *USUAL[1:])
    finally:
        collect_as_usual()
    assert gc.get_threshold() == USUAL
