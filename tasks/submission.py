"""A competition's table from the predictions of unlabelled examples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tasks.parameters import nearest

if TYPE_CHECKING:
    from models.settings import Submission


def write_submission(
    predictions: Path, classes: Sequence[str], settings: Submission, path: Path, *, part: str = "test"
) -> int:
    """Write `id,label` with the probability of `settings.label` for every unlabelled example of `part`.

    `id` is the number that the example's file name holds; rows are in its order. Returns the number of rows.
    ValueError where the class is unknown, nothing is unlabelled, or a name holds no number or one used twice.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if settings.label not in classes:
        raise ValueError(
            f"export.submission.label: no class {settings.label!r}{nearest(settings.label, tuple(classes))}"
        )
    table = pq.read_table(predictions, columns=["item_id", "part", "label", "probabilities"])
    table = table.filter(pc.and_(pc.equal(table["part"], part), pc.is_null(table["label"])))
    if not table.num_rows:
        raise ValueError(
            f"export.submission: {predictions.name} has no unlabelled example in part {part};"
            " leave `submission` out where the source publishes none"
        )
    column = list(classes).index(settings.label)
    lowest, highest = settings.clip, 1 - settings.clip
    rows: dict[int, float] = {}
    for item, probabilities in zip(
        table["item_id"].to_pylist(), table["probabilities"].to_pylist(), strict=True
    ):
        number = re.search(r"\d+", PurePosixPath(item).stem)
        if number is None:
            raise ValueError(f"export.submission: the name of {item} holds no number to write as `id`")
        if int(number[0]) in rows:
            raise ValueError(f"export.submission: the number of {item} is that of another example, too")
        rows[int(number[0])] = min(max(probabilities[column], lowest), highest)
    lines = [f"{number},{rows[number]:.6f}\n" for number in sorted(rows)]
    path.write_text("id,label\n" + "".join(lines))
    return len(rows)
