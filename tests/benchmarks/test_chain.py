"""The page's tables of what the chain costs, from figures that are made up."""

from benchmarks.chain import DOORS, best, tables

IDLE = {door: {"seconds": 2.5, "processor": 2.0} for door in DOORS}
FIGURES = {
    "rounds": 1,
    "sizes": {
        "18": {"stages": 108, "nothing to do": IDLE, "recording": {"flow": 0.25, "dvc": 1.5}},
        "50": {"stages": 300, "nothing to do": IDLE, "recording": {"flow": 0.5, "dvc": 4.0}},
    },
    "stages": {"clean": {"work": 0.1, "flow": 0.4, "dvc": 0.9, "dvc among": 2.0}},
    "flow": 1.25,
    "dvc": 0.5,
    "dvc among": 0.75,
}


def test_every_size_and_stage_has_its_row() -> None:
    lines = tables(FIGURES).splitlines()
    idle = " | ".join(["2.5 s (2.0)"] * len(DOORS))
    assert f"| 18 applications, 108 stages | {idle} | 6 s, 15 s, 15 s |" in lines
    assert f"| 50 applications, 300 stages | {idle} |  |" in lines
    assert "| 300 stages | 0.50 s | 4.00 s |" in lines
    assert any(
        line.endswith("on top, `dvc repro` of one application | the same among 108 stages |")
        for line in lines
    )
    assert "| clean | 0.10 s | 0.40 s | 0.90 s | 2.00 s |" in lines
    assert "| around all of them | – | 1.25 s | 0.50 s | 0.75 s |" in lines


def test_the_best_of_each_figure_counts() -> None:
    rounds = [{"seconds": 2.0, "processor": 1.0}, {"seconds": 1.5, "processor": 1.25}]
    assert best(rounds) == {"seconds": 1.5, "processor": 1.0}
