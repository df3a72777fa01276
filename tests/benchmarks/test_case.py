"""Every case can be raced: it has this project's variant and something to race it against."""

from collections import Counter

from benchmarks.case import OURS, entries

ALL = entries()


def test_names_are_different() -> None:
    assert [name for name, times in Counter(each.case.name for each in ALL).items() if times > 1] == []


def test_each_case_races_the_project_against_what_its_goals_name() -> None:
    assert ALL
    for each in ALL:
        assert OURS in each.variants, each.case.name
        assert each.case.goals.keys() < each.variants.keys(), each.case.name
