"""Are groups of people treated alike? Rates by group with bootstrap intervals (Fairlearn's MetricFrame)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recipes.recipe import Figure, Listing, Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTILES = (0.025, 0.975)

RULE = 0.8
"""Smallest ratio of two groups' selection rates (the four-fifths rule of the Uniform Guidelines of 1978)."""

SHARE = 0.02
"""Of the rows: smaller groups are no yardstick for others (the same guidelines)."""

MEASURED = (
    "count",
    "share_positive",
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "calibration",
)
"""What is measured of each group. calibration: mean probability less the share that is positive."""

TEXT = (
    "Of the labelled validation rows. Selected: predicted `{positive}`. `selection_ratio` is a group's"
    " selection rate over the highest one (of groups with at least 2 % of the rows); below 0.8 the"
    " four-fifths rule speaks of adverse impact. `calibration` is the mean probability of `{positive}`"
    " less its share: above 0 the group is overrated. Brackets hold bootstrap intervals of 95 %"
    " ({resamples} resamples); where groups are small they are wide, and nothing follows. Equal rates are"
    " no proof of fairness, and unequal ones repeat what the labels say as well as what the network adds."
)


def audit(subject: Subject, predictions: pa.Table) -> Iterator[Listing]:
    """A listing for the card where the evaluate block names columns; ValueError where one was not cleaned."""
    frames = by_group(subject, predictions)
    if not frames:
        return
    evaluation = subject.evaluation
    text = TEXT.format(positive=positive_class(subject), resamples=evaluation.resamples)
    rows = [
        {
            "column": column,
            "group": group,
            "rows": int(row["count"]),
            **{name: _with_interval(row, name) for name in MEASURED[1:]},
            "selection_ratio": _with_interval(row, "selection_ratio"),
            "four_fifths_rule": _verdict(row),
        }
        for column, frame in frames.items()
        for group, row in frame.iterrows()
    ]
    yield Listing(name="audit", table=pa.Table.from_pylist(rows), title="Audit by groups", text=text)


def audit_figures(subject: Subject, predictions: pa.Table) -> Iterator[Figure]:
    """A figure per audited column: each rate by group with its interval."""
    for column, frame in by_group(subject, predictions).items():
        yield Figure(
            name=f"audit_{column.replace('/', '_')}",
            draw=partial(_draw, column=column, frame=frame),
        )


def by_group(subject: Subject, predictions: pa.Table) -> dict[str, pd.DataFrame]:
    """For each audited column a row per group: what is MEASURED and `selection_ratio`, with `_low` and
    `_high`."""
    from data.tables.coding import CELLS, column_of, describe_columns

    columns = subject.evaluation.audit
    if not columns:
        return {}
    described = describe_columns(subject.items)
    cells = subject.items.table(["valid"], CELLS)
    rows = predictions.filter(pc.equal(predictions["part"], "valid"))
    known = pc.is_valid(rows["label"]).to_numpy()
    rows = rows.filter(pa.array(known))
    positive = positive_class(subject)
    place = subject.facts["classes"].index(positive)
    actual = np.array([label == positive for label in rows["label"].to_pylist()], dtype=np.int64)
    chosen = np.array([label == positive for label in rows["predicted"].to_pylist()], dtype=np.int64)
    probability = np.array(rows["probabilities"].to_pylist(), dtype=np.float64).reshape(len(actual), -1)[
        :, place
    ]
    found = {}
    for column in columns:
        groups = _groups(column_of(cells, described, column))[known]
        if len(actual):
            people = People(
                *map(tuple, (actual.tolist(), chosen.tolist(), probability.tolist(), groups.tolist()))
            )
            found[column] = measure(
                people, resamples=subject.evaluation.resamples, seed=subject.settings.seed
            )
    return found


@dataclass(frozen=True)
class People:
    """One entry per row."""

    actual: tuple[int, ...]
    """1: of the positive class."""
    chosen: tuple[int, ...]
    """1: predicted to be."""
    probability: tuple[float, ...]
    """Of being."""
    groups: tuple[str, ...]


def positive_class(subject: Subject) -> str:
    """The class that counts as selected. ValueError where there is no such class."""
    classes, wanted = subject.facts["classes"], subject.evaluation.positive
    if wanted and wanted not in classes:
        raise ValueError(f"evaluate.positive: there is no class {wanted!r}; there are {', '.join(classes)}")
    return str(wanted or classes[-1])


@lru_cache(maxsize=16)  # the table and the figure ask the same
def measure(people: People, *, resamples: int, seed: int) -> pd.DataFrame:
    """Rates of each group with bootstrap intervals. Rates of which no row speaks (no positive one) are
    nan."""
    from fairlearn.metrics import MetricFrame, count, selection_rate

    def share_positive(y_true: Any, y_pred: Any) -> float:
        return float(np.mean(y_true))

    def true_positive_rate(y_true: Any, y_pred: Any) -> float:
        y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
        return float(y_pred[y_true == 1].mean()) if (y_true == 1).any() else float("nan")

    def false_positive_rate(y_true: Any, y_pred: Any) -> float:
        y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
        return float(y_pred[y_true == 0].mean()) if (y_true == 0).any() else float("nan")

    def calibration(y_true: Any, y_pred: Any, probability: Any) -> float:
        return float(np.mean(probability) - np.mean(y_true))

    functions = (share_positive, selection_rate, true_positive_rate, false_positive_rate, calibration)
    frame = MetricFrame(
        metrics={"count": count, **dict(zip(MEASURED[1:], functions, strict=True))},
        y_true=np.array(people.actual),
        y_pred=np.array(people.chosen),
        sensitive_features=pd.Series(people.groups, name="group"),
        sample_params={"calibration": {"probability": np.array(people.probability)}},
        n_boot=resamples,
        ci_quantiles=list(QUANTILES),
        random_state=seed,
    )
    table = frame.by_group.astype(float)
    low, high = (each.astype(float) for each in frame.by_group_ci)
    table["selection_ratio"], low["selection_ratio"], high["selection_ratio"] = _ratios(
        table, people, resamples=resamples, seed=seed
    )
    named = {"_low": low, "_high": high}
    found: pd.DataFrame = pd.concat(
        [table, *(each.add_suffix(ending) for ending, each in named.items())], axis=1
    )
    return found


def _ratios(table: pd.DataFrame, people: People, *, resamples: int, seed: int) -> NDArray[np.float64]:
    """(3, groups): each selection rate over the yardstick's, and the ends of its interval."""
    from scipy.stats import bootstrap

    groups, chosen = np.array(people.groups, dtype=object), np.array(people.chosen, dtype=np.float64)
    large = table["selection_rate"].where(table["count"] >= SHARE * len(groups))
    if not large.max() > 0:
        return np.full((3, len(table)), np.nan)
    yardstick = (groups == large.idxmax()).astype(np.float64)

    def ratio(chosen: Any, here: Any, yardstick: Any, axis: int = -1) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            rate = (chosen * here).sum(axis) / here.sum(axis)
            return rate / ((chosen * yardstick).sum(axis) / yardstick.sum(axis))

    found = np.empty((3, len(table)))
    for place, name in enumerate(table.index):
        here = (groups == name).astype(np.float64)
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of samples without a row of the group
            drawn = bootstrap(
                (chosen, here, yardstick), ratio, paired=True, vectorized=True, n_resamples=resamples,
                batch=50, method="percentile", rng=np.random.default_rng(seed),
            ).bootstrap_distribution  # fmt: skip
        finite = drawn[np.isfinite(drawn)]
        ends = np.quantile(finite, QUANTILES) if len(finite) else (np.nan, np.nan)
        found[:, place] = float(ratio(chosen, here, yardstick)), *ends
    return found


def _groups(cells: pa.Array) -> NDArray[Any]:
    """Names as they are, quantities in their quarters; what is missing is a group as well."""
    values = pd.Series(cells.to_pylist())
    if pa.types.is_floating(cells.type):
        values = pd.qcut(values, 4, duplicates="drop").astype("string")
    return values.astype(object).where(values.notna(), "(missing)").to_numpy()


def _with_interval(row: pd.Series[float], name: str) -> str:
    if np.isnan(row[name]):
        return "–"
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def _verdict(row: pd.Series[float]) -> str:
    """Whether the rule holds, and whether the interval allows to say so."""
    if np.isnan(row["selection_ratio"]):
        return "–"
    if row["selection_ratio"] >= RULE:
        return "kept" if row["selection_ratio_low"] >= RULE else "kept, uncertain"
    return "broken" if row["selection_ratio_high"] < RULE else "broken, uncertain"


def _draw(figure: Any, column: str, frame: pd.DataFrame) -> None:
    shown = MEASURED[1:]
    figure.set_size_inches(3.2 * 3, 2 * (1.4 + 0.35 * len(frame)))
    axes = figure.subplots(2, 3, sharey=True).ravel()
    places = np.arange(len(frame))
    names = [f"{group} ({int(count)})" for group, count in frame["count"].items()]
    for axis, name in zip(axes, shown, strict=False):
        value = frame[name].to_numpy(dtype=float)
        ends = np.abs(np.stack([value - frame[f"{name}_low"], frame[f"{name}_high"] - value]))
        axis.errorbar(value, places, xerr=np.nan_to_num(ends), fmt="o", capsize=3)
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.set_yticks(places, names)
        if name == "selection_rate" and (frame["selection_ratio"] > 0).any():
            with np.errstate(invalid="ignore"):  # 0 / 0 of a group that is never selected
                highest = float(np.nanmax(value / frame["selection_ratio"].to_numpy(dtype=float)))
            axis.axvline(RULE * highest, linestyle="--", color="C3", label="four fifths of the highest")
            axis.legend(fontsize=7)
        if name == "calibration":
            axis.axvline(0, linestyle=":", color="grey")
    axes[0].invert_yaxis()
    for axis in axes[len(shown) :]:
        axis.axis("off")
    figure.suptitle(f"by {column}, with bootstrap intervals of 95 %", fontsize=10)
    figure.tight_layout()
