"""The entries of docs/data/tables.md are valid as they stand there."""

import re

import pytest
import yaml

from tasks.parameters import read_application
from tests.scratch import ROOT

PAGE = (ROOT / "docs" / "data" / "tables.md").read_text()
ENTRIES = {
    name: entry
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    for name, entry in yaml.safe_load(block).items()
}


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_an_entry_of_the_page_is_valid(name: str) -> None:
    typed, recipe = read_application(name, ENTRIES[name])
    assert typed.clean.target
    assert recipe.family == "tabular"


def test_every_reason_of_the_page_is_one_of_the_code_and_the_other_way_round() -> None:
    code = (ROOT / "data" / "tables" / "cleaning.py").read_text()
    given = set(re.findall(r'(?:, |= )"((?:not|no|unknown) [a-z ]+|ragged row)"', code))
    listed = set(re.findall(r"`([a-z ]+)`", PAGE.split("## What is left out")[1].split("The whole file")[0]))
    assert given <= listed
    assert listed & {"ragged row", "no partner", "unknown target"} == {
        "ragged row",
        "no partner",
        "unknown target",
    }
