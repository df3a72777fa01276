"""Turns of a search: what a seed draws, what a dead worker leaves, and how many trials there are."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.parameters import load_parameters
from tasks.space import read_space
from tasks.study import Search, open_study, take_turn
from tests import pictures
from tests.scratch import write_parameters
from tests.searches import RATE


def search_of(folder: Path, *, trials: int = 12, seed: int = 42) -> Search:
    """A search that nothing was asked of yet; its trials are only drawn."""
    folder.mkdir(exist_ok=True)
    write_parameters(folder, pictures.parameters(shapes=pictures.entry()))
    space = read_space(load_parameters(folder / "params.yaml"), "shapes", [*RATE, "fine_tune.batch_size=4,8"])
    return Search(
        application="shapes", name="shapes-1", space=space, headline="error_rate", higher_is_better=False,
        seed=seed, trials=trials, until=math.inf, root=folder, folder=folder / "sweeps" / "shapes-1",
    )  # fmt: skip


def draw(search: Search, *, killed: Sequence[int] = ()) -> list[dict[str, Any]]:
    """What is drawn until the search has all its trials; the value of each follows from what was drawn.

    `killed`: places whose process dies the first time: their lock is let go, and Optuna is told nothing.
    """
    study, drawn, dying = open_study(search), [], set(killed)
    while (turn := take_turn(search, study)) is not None:
        if turn.place in dying:
            dying.remove(turn.place)
        else:
            drawn.append(turn.drawn)
            study.tell(turn.trial, abs(turn.drawn[RATE[0].partition("=")[0]] - 0.03))
        turn.lock.release()
    return drawn


def test_a_seed_draws_the_same_whatever_dies(tmp_path: Path) -> None:
    first = draw(search_of(tmp_path / "one"))
    assert first[0] == {"fine_tune.phases.0.rates.0": 0.01, "fine_tune.batch_size": "8"}, "those in effect"
    assert len(first) == 12  # beyond Optuna's ten random ones
    assert len({str(each) for each in first}) == 12
    assert draw(search_of(tmp_path / "two"), killed=[0, 5, 11]) == first
    assert draw(search_of(tmp_path / "three", seed=7)) != first
    halves = search_of(tmp_path / "four", trials=6)
    assert draw(halves) == first[:6]
    assert draw(replace(halves, trials=12)) == first[6:]


def test_a_trial_that_is_worked_on_is_left_alone(tmp_path: Path) -> None:
    search = search_of(tmp_path, trials=2)
    study = open_study(search)
    turns = [take_turn(search, study), take_turn(search, open_study(search))]
    assert [turn.place for turn in turns if turn] == [0, 1]
    assert take_turn(search, study) is None, "two are wanted, and two are being done"
    for turn in turns:
        assert turn is not None
        turn.lock.release()
