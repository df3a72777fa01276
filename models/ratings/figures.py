"""Drawings of ratings and of what was learned of items, onto matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONG = 44
"""Characters of a title; a longer one is cut."""


def cut(title: str, *, most: int = LONG) -> str:
    """The title, with dots where it goes on; `$` would start a formula."""
    shown = title if len(title) <= most else title[: most - 1] + "…"
    return shown.replace("$", r"\$")


def listing(figure: Any, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows of text under headings."""
    figure.set_size_inches(9, 0.8 + 0.28 * (len(rows) + 1))
    axis = figure.subplots()
    axis.axis("off")
    texts = [[cut(text) for text in row] for row in rows] or [[""] * len(columns)]
    table = axis.table(texts, colLabels=list(columns), loc="upper center", cellLoc="left", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.auto_set_column_width(list(range(len(columns))))
    figure.tight_layout()


def best_and_worst(
    figure: Any, names: Sequence[str], values: NDArray[np.floating[Any]], *, shown: int, label: str
) -> None:
    """Bars of the items with the greatest and with the smallest values, side by side."""
    order = np.argsort(values, kind="stable")
    figure.set_size_inches(13, 1.2 + 0.3 * min(shown, len(values)))
    for axis, chosen, title in zip(
        figure.subplots(1, 2), (order[::-1][:shown], order[:shown]), ("greatest", "smallest"), strict=True
    ):
        axis.barh(range(len(chosen)), values[chosen])
        axis.set_yticks(range(len(chosen)), [cut(names[index]) for index in chosen], fontsize=8)
        axis.invert_yaxis()
        axis.set_xlabel(label)
        axis.set_title(title, fontsize=9)
    figure.tight_layout()


def item_map(figure: Any, points: NDArray[np.floating[Any]], titles: Mapping[int, str]) -> None:
    """Items at their first two principal components (N, 2), some of them with their title."""
    figure.set_size_inches(13, 11)
    axis = figure.subplots()
    axis.scatter(points[:, 0], points[:, 1], s=6, color="0.75")
    for index, title in titles.items():
        axis.scatter(*points[index], s=14, color="C0")
        axis.annotate(
            cut(title), points[index], fontsize=8, xytext=(3, 3), textcoords="offset points", color="C0"
        )
    axis.set_xlabel("first principal component")
    axis.set_ylabel("second principal component")
    figure.tight_layout()


def by_rating(
    figure: Any, ratings: NDArray[np.floating[Any]], predicted: NDArray[np.floating[Any]], *, levels: int = 20
) -> None:
    """Above, what was predicted for each given rating; below, the error there. Many levels fall into bins."""
    given = np.unique(ratings)
    if len(given) > levels:
        edges = np.linspace(ratings.min(), ratings.max(), 11)
        places = np.clip(np.digitize(ratings, edges) - 1, 0, 9)
        given = (edges[:-1] + edges[1:]) / 2
    else:
        places = np.searchsorted(given, ratings)
    groups = [np.flatnonzero(places == place) for place in range(len(given))]
    figure.set_size_inches(8, 7)
    above, below = figure.subplots(2, 1, sharex=True)
    filled = [place for place, rows in enumerate(groups) if len(rows)]
    above.boxplot(
        [predicted[groups[place]] for place in filled], positions=filled, whis=(5, 95), showfliers=False
    )
    above.plot(range(len(given)), given, color="C1", label="as given")
    above.set_ylabel("predicted rating")
    above.legend()
    errors = [
        float(np.sqrt(np.mean((predicted[groups[place]] - ratings[groups[place]]) ** 2))) for place in filled
    ]
    below.bar(filled, errors)
    below.set_ylabel("root of the mean squared error")
    below.set_xticks(
        range(len(given)), [f"{value:g}\n{len(rows)}" for value, rows in zip(given, groups, strict=True)]
    )
    below.set_xlabel("given rating, and how many there are")
    figure.tight_layout()
