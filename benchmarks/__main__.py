"""`python -m benchmarks`: see `make benchmark`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.case import entries
from benchmarks.growth import measure as measure_growth
from benchmarks.growth import table
from benchmarks.machine import facts
from benchmarks.page import page
from benchmarks.race import ROOT, race

FIGURES = ROOT / "docs" / "benchmarks"

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)


@app.command()
def speed(
    only: Annotated[str, typer.Argument(help="cases whose name contains this; all by default")] = "",
    peer: Annotated[Path | None, typer.Option(help="a Python that has fastai; left out without it")] = None,
    threads: Annotated[int, typer.Option(help="of every variant")] = 1,
    rounds: Annotated[int | None, typer.Option(help="of every variant; each case has its own number")] = None,
) -> None:
    """Race the project, fastai and a bare loop on equal work, in alternation."""
    save("machine", facts(str(peer) if peer else None))
    for entry in entries(only):
        figures = race(entry, peer=str(peer) if peer else None, threads=threads, rounds=rounds)
        save(f"speed-{entry.case.name}", figures)
        for name, ratio in figures["ratios"].items():
            goal = entry.case.goals.get(name)
            wanted = f", wanted {goal:g}" if goal else ""
            print(f"{entry.case.name}: {ratio['best']:.2f} times as fast as {name}{wanted}", flush=True)
    write_page()


@app.command()
def growth(
    only: Annotated[str, typer.Argument(help="kinds of data whose name contains this; all by default")] = "",
    largest: Annotated[int, typer.Option(help="rows above which is not measured")] = 10**9,
    place: Annotated[Path | None, typer.Option(help="where some 10 GB may be written meanwhile")] = None,
) -> None:
    """Show how time and memory of clean, split and fine_tune grow with the rows."""
    for figures in measure_growth(only, largest=largest, place=place):
        save(f"growth-{figures['kind']}-{figures['rows']}", figures)
        print(table([figures]), flush=True)
    write_page()


@app.command()
def chain(
    sizes: Annotated[list[int] | None, typer.Argument(help="applications of each scratch project")] = None,
    rounds: Annotated[int, typer.Option(help="of everything; the best counts")] = 3,
) -> None:
    """Measure what DVC, Prefect and processes cost around the work of the stages."""
    from benchmarks.chain import SIZES, measure, tables

    figures = measure(sizes or SIZES, rounds)
    save("chain", figures)
    print(tables(figures))
    write_page()


@app.command("all")
def everything(
    peer: Annotated[Path | None, typer.Option(help="a Python that has fastai; left out without it")] = None,
    place: Annotated[Path | None, typer.Option(help="where some 10 GB may be written meanwhile")] = None,
) -> None:
    """Everything, one after the other: some three quarters of an hour on two cores."""
    speed(peer=peer)
    chain()
    growth(place=place)


@app.command("page")
def write_page() -> None:
    """Write docs/benchmarks.md anew from the figures that are there."""
    (ROOT / "docs" / "benchmarks.md").write_text(page(FIGURES))


def save(name: str, figures: object) -> None:
    """Into docs/benchmarks, as JSON."""
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    app()
