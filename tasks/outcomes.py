"""The outcome of each item of an evaluation, and what became of the same items in another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import pandas as pd

OUTCOMES = "outcomes"
"""Folder among a run's artifacts."""
FILE = "outcomes.parquet"
SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("truth", pa.string()),  # label, target or rating; null: unlabelled, or of another shape
        pa.field("predicted", pa.string()),  # null: of another shape, such as a mask
        pa.field("right", pa.bool_()),  # null: unlabelled, or no class was predicted
        pa.field(
            "score", pa.float64()
        ),  # how far off, by the measure that the metadata name; lower is better
    ]
)
"""Small whatever is predicted, so that every run can keep it: about 30 bytes a row."""
MEASURE = b"score"
"""Key of the schema's metadata: what `score` measures."""
TO_RIGHT, TO_WRONG = "wrong to right", "right to wrong"

Measure = Callable[[pa.Table], pa.Array]


def _distances(predictions: pa.Table) -> pa.Array:
    """Of made pictures, in the features of the judge; null for the pictures that they are held against."""
    import numpy as np

    from recipes.evaluation.samples import MADE, REAL

    features = np.array(predictions["features"].to_pylist(), dtype=np.float64)
    parts, kinds = (predictions[name].to_numpy(zero_copy_only=False) for name in ("part", "kind"))
    distances = np.full(len(kinds), np.nan)
    for part in set(parts):
        made, real = ((parts == part) & (kinds == kind) for kind in (MADE, REAL))
        distances[made] = np.linalg.norm(features[made] - features[real].mean(axis=0), axis=1)
    return pa.array(distances, from_pandas=True)


MEASURES: tuple[tuple[str, tuple[str, ...], Measure], ...] = (
    ("loss", ("loss",), lambda table: table["loss"]),
    (
        "absolute error",
        ("rating", "predicted"),
        lambda table: pc.abs(pc.subtract(table["predicted"], table["rating"])),
    ),
    ("mistakes", ("missed", "wrong"), lambda table: pc.add(table["missed"], table["wrong"])),
    ("distance to the mean of real pictures", ("kind", "features"), _distances),
)
"""What one item's score is: the first of these whose columns the predictions have."""
TRUTHS = ("label", "target", "rating")


def outcomes(predictions: pa.Table) -> pa.Table:
    """A row of SCHEMA per row of `evaluate/predictions.parquet` that can be judged by the columns it has."""
    columns = set(predictions.column_names)
    empty = pa.nulls(predictions.num_rows)
    known = [(name, measure) for name, needed, measure in MEASURES if columns.issuperset(needed)]
    name, measure = known[0] if known else ("nothing", lambda table: empty)
    truth = next((predictions[each] for each in TRUTHS if each in columns), empty)
    predicted = predictions["predicted"] if "predicted" in columns else empty
    classified = "label" in columns and "predicted" in columns
    table = pa.table(
        {
            "item_id": predictions["item_id"],
            "part": predictions["part"],
            "truth": pc.cast(truth, pa.string()),
            "predicted": pc.cast(predicted, pa.string()),
            "right": pc.equal(truth, predicted) if classified else empty,
            "score": pc.cast(measure(predictions), pa.float64()),
        }
    ).cast(SCHEMA)
    judged = pc.or_(pc.is_valid(table["right"]), pc.is_valid(table["score"]))
    return table.filter(judged).replace_schema_metadata({MEASURE: name})


def write_outcomes(predictions: pa.Table, folder: Path) -> Path:
    """The outcomes as a file in `folder`."""
    path = folder / FILE
    pq.write_table(outcomes(predictions), path, compression="zstd")
    return path


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The items of one part in two evaluations."""

    part: str
    measure: str
    """What the scores measure; lower is better."""
    items: pd.DataFrame
    """Items that both have, most changed first: item_id, truth, and predicted, right and score with `_before`
    and `_after`; `flip` (TO_RIGHT, TO_WRONG or empty) and `moved`, the difference of the scores."""
    gone: int
    """Items of the first evaluation only."""
    new: int
    """Items of the second evaluation only."""
    relabelled: int
    """Items of both whose truth differs; each evaluation is held against its own."""

    @property
    def classified(self) -> bool:
        """Whether answers are right or wrong; otherwise only scores are known."""
        return bool(self.items["right_before"].notna().any())

    def counts(self) -> dict[str, int]:
        """Flipped and other items; where nothing is right or wrong, items by the direction of the score."""
        items = self.items
        if not self.classified:
            moved = items["moved"]
            return {
                "better": int((moved < 0).sum()),
                "worse": int((moved > 0).sum()),
                "equal": int((moved == 0).sum()),
            }
        stayed = items[items["flip"] == ""]
        return {
            TO_RIGHT: int((items["flip"] == TO_RIGHT).sum()),
            TO_WRONG: int((items["flip"] == TO_WRONG).sum()),
            "right in both": int(stayed["right_after"].sum()),
            "wrong in both": int((~stayed["right_after"]).sum()),
        }

    def chance(self) -> float:
        """p that as lopsided a count of changes comes by chance alone: McNemar's exact test of flips, and the
        sign test of scores, which are the same binomial test. 1 where nothing changed."""
        from scipy.stats import binomtest

        better, worse, *_ = self.counts().values()
        return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0

    def shown(self, most: int) -> pd.DataFrame:
        """The most changed items: flips where answers are right or wrong, else the scores that moved."""
        changed = self.items["flip"] != "" if self.classified else self.items["moved"] != 0
        return self.items[changed].head(most)


def changes(first: pa.Table, second: pa.Table) -> Changes:
    """What became of the same items from one evaluation's outcomes to another's, in the validation part.

    In the test part where nothing of the validation part is in both. ValueError where no item is, or where
    the two are not measured alike.
    """
    measures = [(table.schema.metadata or {}).get(MEASURE, b"").decode() for table in (first, second)]
    if measures[0] != measures[1]:
        raise ValueError(f"their items are measured differently: by {measures[0]} and by {measures[1]}")
    for part in ("valid", "test"):
        before, after = (_frame(table.filter(pc.equal(table["part"], part))) for table in (first, second))
        both = before.merge(after, on=["part", "item_id"], suffixes=("_before", "_after"))
        if len(both):
            return _changes(part, measures[0], both, gone=len(before) - len(both), new=len(after) - len(both))
    if not first.num_rows or not second.num_rows:
        raise ValueError("the predictions of one of them tell nothing of single items")
    raise ValueError("they have no validation or test item in common: another split, or other data")


def _changes(part: str, measure: str, both: pd.DataFrame, *, gone: int, new: int) -> Changes:
    truths = both["truth_before"], both["truth_after"]
    differs = (truths[0] != truths[1]) & ~(truths[0].isna() & truths[1].isna())
    right = both["right_before"], both["right_after"]
    both["flip"] = ""
    both.loc[(~right[0] & right[1]).fillna(False), "flip"] = TO_RIGHT
    both.loc[(right[0] & ~right[1]).fillna(False), "flip"] = TO_WRONG
    both["moved"] = both["score_after"] - both["score_before"]
    both["size"] = both["moved"].abs()
    both = both.sort_values(["flip", "size", "item_id"], ascending=[False, False, True], ignore_index=True)
    columns = [
        "item_id", "truth_after", "predicted_before", "predicted_after", "right_before", "right_after",
        "score_before", "score_after", "moved", "flip",
    ]  # fmt: skip
    return Changes(
        part=part,
        measure=measure,
        items=both[columns].rename(columns={"truth_after": "truth"}),
        gone=gone,
        new=new,
        relabelled=int(differs.sum()),
    )


def _frame(table: pa.Table) -> pd.DataFrame:
    """With nulls that stay nulls in logic: an unlabelled item is neither right nor wrong."""
    import pandas as pd

    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get)
    return frame
