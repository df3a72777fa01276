"""docs/data/tables.md lists every reason for which a row is left out."""

import re

from tests.scratch import ROOT

PAGE = (ROOT / "docs" / "data" / "tables.md").read_text()


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
