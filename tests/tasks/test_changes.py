"""Single values by their path, through blocks and lists."""

from typing import Any

import pytest

from tasks.changes import change


def test_a_path_leads_through_blocks_and_lists() -> None:
    document: dict[str, Any] = {"phases": [{"rates": [0.1, 0.2]}, {"rates": [0.3]}]}
    change(document, "phases.1.rates.0", 0.5)
    change(document, "phases.0.freeze", "body")
    change(document, "network.name", "mlp")
    assert document == {
        "phases": [{"rates": [0.1, 0.2], "freeze": "body"}, {"rates": [0.5]}],
        "network": {"name": "mlp"},
    }


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("phases.2.epochs", r"phases.2.epochs: phases is a list of 1; positions count from 0"),
        ("phases.first.epochs", "phases is a list of 1"),
        ("size.width", "size is a value, not a block"),
        ("sise.width", "params.yaml has no sise; did you mean 'size'"),
    ],
)
def test_a_path_that_leads_nowhere(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change({"phases": [{}], "size": 3}, path, 1, known=1)
