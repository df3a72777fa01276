"""The card says what was trained on what, how good it is on which data, and holds no time."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from models.settings import ExportSettings
from tasks.card import card, listings, magnitude, table
from tests import colours

METRICS = {
    "data": "generated",
    "valid": {"accuracy": 0.75, "error_rate": 0.25, "examples": 8},
    "test": {"accuracy": 0.5, "error_rate": 0.5, "examples": 4},
}


def make(block: dict[str, Any] | None = None, **changes: Any) -> str:
    """The card of the colours; `changes` replace fields of the data's record."""
    facts = {"classes": list(colours.CLASSES)}
    settings, export = colours.Settings(), ExportSettings.model_validate(block or {})
    network = colours.network(settings, facts).eval()
    recipe: Any = colours.RECIPE
    return card(
        "colours", colours.entry(export), recipe, colours.signature(network, facts, settings, export),
        edition="sample", settings=settings.model_dump(), metrics=METRICS,
        provenance={**colours.provenance(), **changes}, differences={"torch.export": 0.0, "ONNX": 3e-7},
        sections=[("Groups", "One table.")], tolerance=1e-5, usage="model.predict(rows)",
    )  # fmt: skip


@pytest.mark.parametrize(
    "wanted",
    [
        "# colours (sample edition)",
        "| licence | CC0 |",
        "| citation | Nobody, 2026. |",
        "| left out | 2 truncated |",
        "| title | Drawn colours \\| twelve |",
        f"`sha256:{'ab' * 32}`",
        f"`{'cd' * 32}`",
        "say nothing about quality on anything that is real",
        "| valid | 8 |",
        "Method: stratified.",
        "Leak gate: **passed**; leaks found: none; pairs that look alike",
        "compared by pixels: 3.",
        "Classes without a training example: `grey`.",
        "## Groups\n\nOne table.",
        "- It knows three colours.",
        '"width": 8',
        "| accuracy (headline) | 0.7500 | 0.5000 |",
        "| ONNX | at most 1e-06 |",
        "- Not for use: it has never seen the data that its name stands for.",
        "Fewer than 10 examples each: `blue`, `green`, `red`",
        'mlflow.pyfunc.load_model("artifacts/colours/export")',
        "| torch | 2.",
    ],
)
def test_the_card_holds(wanted: str) -> None:
    assert wanted in make()


def test_the_courses_figure_stands_beside_ours_with_the_extent() -> None:
    text = make({"course": {"metric": "error_rate", "value": 0.0622, "source": "2019 lesson 1"}})
    assert "The course reached error_rate 0.0622 on all of the published data (2019 lesson 1)" in text
    assert "here it is 0.2500, on data that is generated" in text


def test_a_figure_of_a_metric_that_nobody_computes_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"export\.course\.metric: .* 'eror_rate'; did you mean 'error_rate'"
    ):
        make({"course": {"metric": "eror_rate", "value": 0.1, "source": "lesson 1"}})


def test_whole_data_is_not_called_unfit() -> None:
    text = make(extent="whole", labels={"blue": 300, "green": 300, "red": 200})
    assert "Not for use" not in text
    assert "Fewer than 10" not in text
    assert "All of the published data." in text


def test_the_python_of_the_card_is_valid_and_there_is_no_time() -> None:
    text = make()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    compile(textwrap.dedent(code), "card.md", "exec")
    assert re.search(r"\d{4}-\d{2}-\d{2}|\d{2}:\d{2}", text) is None
    assert str(Path(__file__).resolve().parents[2]) not in text


@pytest.mark.parametrize(("value", "shown"), [(0.0, "0"), (3e-7, "1e-06"), (1e-6, "1e-06"), (0.2, "1")])
def test_magnitude_is_the_power_of_ten_not_below(value: float, shown: str) -> None:
    assert magnitude(value) == shown


def test_cells_cannot_break_a_table() -> None:
    assert table(("a", "b"), [("x|y", "two\nlines")]).splitlines()[2] == "| x\\|y | two lines |"


def test_tables_with_a_heading_come_into_the_card(tmp_path: Path) -> None:
    listed = [{"name": "groups", "title": "By group", "text": "Of the validation part."}]
    (tmp_path / "card.json").write_text(json.dumps(listed))
    (tmp_path / "groups.csv").write_text("group,rate,rows\nwomen,0.123456789,12\n")
    (tmp_path / "others.csv").write_text("a\n1\n")
    ((title, text),) = listings(tmp_path)
    assert title == "By group"
    assert text == (
        "Of the validation part.\n\n| group | rate | rows |\n| --- | --- | --- |\n| women | 0.1235 | 12 |"
    )


def test_a_long_table_says_where_the_rest_is(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(json.dumps([{"name": "many", "title": "Many", "text": ""}]))
    (tmp_path / "many.csv").write_text("n\n" + "".join(f"{number}\n" for number in range(100)))
    ((_, text),) = listings(tmp_path)
    assert text.endswith("| 39 |\n\n60 more rows in `evaluate/tables/many.csv`.")
