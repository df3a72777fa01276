"""Variants in processes of their own, in alternation."""

import sys

import pytest

from benchmarks.case import BARE, OURS, PEER, Entry
from benchmarks.race import race
from tests.benchmarks import toy


def entry(name: str) -> Entry:
    return Entry(toy.__name__, next(case for case in toy.CASES if case.name == name))


def test_every_variant_does_the_same_work_as_often() -> None:
    figures = race(entry("sum"), peer=sys.executable, rounds=3)
    assert figures["variants"].keys() == {OURS, BARE, PEER}
    bf16 = figures["variants"][OURS]["bf16"]
    assert bf16["operations"] == 1
    assert bf16["share"] == pytest.approx(figures["variants"][OURS]["best"] / bf16["hardware"])
    for each in figures["variants"].values():
        assert each["check"] == sum(range(1000))
        assert each["rounds"] == 3
        assert 0 < each["least"] <= each["median"] <= each["best"]
        assert each["memory"] > 0
    assert figures["ratios"].keys() == {BARE, PEER}
    for ratio in figures["ratios"].values():
        assert 0 < ratio["least"] <= ratio["paired"] <= ratio["most"]


def test_without_an_environment_of_fastai_the_others_run() -> None:
    assert race(entry("sum"), peer=None, rounds=1)["variants"].keys() == {OURS, BARE}


def test_a_variant_that_fails_is_named() -> None:
    with pytest.raises(RuntimeError, match="broken practicum ended with status 3"):
        race(entry("broken"), peer=None)
