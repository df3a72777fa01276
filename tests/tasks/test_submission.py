"""A competition's table: numbers in order, probabilities away from 0 and 1, and clear refusals."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.settings import Submission
from tasks.submission import write_submission


def predictions(path: Path, rows: list[tuple[str, str | None, float]]) -> Path:
    """`predictions.parquet` of a test part from (item, label, probability of dog)."""
    table = {
        "item_id": [item for item, _, _ in rows], "part": ["test"] * len(rows),
        "label": [label for _, label, _ in rows], "probabilities": [[1 - dog, dog] for _, _, dog in rows],
    }  # fmt: skip
    texts = [(name, pa.string()) for name in ("item_id", "part", "label")]
    schema = pa.schema([*texts, ("probabilities", pa.list_(pa.float32()))])
    pq.write_table(pa.table(table, schema), path)
    return path


def test_rows_are_sorted_by_number_and_clipped(tmp_path: Path) -> None:
    rows = [("test1/10.jpg", None, 1.0), ("test1/9.jpg", None, 0.0), ("test1/1.jpg", None, 0.25)]
    source = predictions(tmp_path / "p.parquet", [*rows, ("test1/2.jpg", "dog", 0.5)])
    target = tmp_path / "submission.csv"
    assert write_submission(source, ["cat", "dog"], Submission(label="dog", clip=0.01), target) == 3
    assert target.read_text() == "id,label\n1,0.250000\n9,0.010000\n10,0.990000\n"


@pytest.mark.parametrize(
    ("rows", "label", "message"),
    [
        ([("test1/1.jpg", None, 0.5)], "dgo", "no class 'dgo'; did you mean 'dog'"),
        ([("test1/1.jpg", "dog", 0.5)], "dog", "no unlabelled example in part test"),
        ([("test1/rex.jpg", None, 0.5)], "dog", "name of test1/rex.jpg holds no number"),
        ([("a/1.jpg", None, 0.5), ("b/01.jpg", None, 0.5)], "dog", "number of b/01.jpg is that of another"),
    ],
)
def test_what_gives_no_table_is_refused(
    tmp_path: Path, rows: list[tuple[str, str | None, float]], label: str, message: str
) -> None:
    source = predictions(tmp_path / "p.parquet", rows)
    with pytest.raises(ValueError, match=message):
        write_submission(source, ["cat", "dog"], Submission(label=label), tmp_path / "submission.csv")
    assert not (tmp_path / "submission.csv").exists()
