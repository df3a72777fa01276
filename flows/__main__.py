"""The command line: see, run, try, register and repair. `python -m flows COMMAND --help` explains each."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows import server
from tasks.failure import explained
from tasks.workspace import checkout

app = typer.Typer(
    name="python -m flows", help=__doc__, no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
Application = Annotated[str, typer.Argument(metavar="APP", help="an application of params.yaml")]

Scheduled = Annotated[
    list[str] | None, typer.Argument(metavar="[APP]...", help="applications; all where none is named")
]
Webhook = Annotated[
    str | None,
    typer.Option(envvar="PRACTICUM_WEBHOOK", help="address that is told of failed runs; '' for none"),
]


@app.command("list")
def list_applications() -> None:
    """Every application with its recipe, source and last result."""
    with explained("list"):
        from flows.explain import overview

        print("\n".join(overview(checkout())))


@app.command()
def explain(application: Application) -> None:
    """Stages, paths, parameters and where each comes from, and one example on its way."""
    with explained(f"explain {application}"):
        from flows.explain import explain as lines

        for line in lines(application, checkout()):
            print(line)


@app.command()
def run(
    applications: Annotated[list[str], typer.Argument(metavar="APP...", help="applications, or `all`")],
    force: Annotated[bool, typer.Option(help="run every stage again, current or not")] = False,
) -> None:
    """Bring applications up to date, stage by stage, in this process, as a Prefect flow."""
    names = _chosen(applications)
    with explained(f"run {' '.join(applications)}"):
        from flows.at_rest import at_rest, checked
        from flows.progress import summary

        checked(names, None)
        resting = {} if force or len(names) < 2 else at_rest(names)
    for name in names:
        with explained(f"run {name}"):
            if name in resting:
                done = dict.fromkeys(resting[name], "current")
            else:
                from flows.chain import brought

                done = brought(name, force=force)
            print(f"{name}: {summary(done)}", flush=True)
    _say_where(names)


@app.command()
def course(
    applications: Annotated[
        list[str] | None, typer.Argument(metavar="[APP]...", help="applications; without any, all of them")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="how many at once; default by cores and devices")
    ] = None,
    dask: Annotated[
        str, typer.Option(metavar="ADDRESS|local", help="run on a Dask cluster instead of processes")
    ] = "",
    force: Annotated[bool, typer.Option(help="run every stage again, current or not")] = False,
) -> None:
    """Bring applications up to date, several at once in warm processes; one that fails stops no other."""
    with explained("course"):
        from flows.at_rest import at_rest, checked, resting_row
        from flows.progress import table

        parameters, names = checked(applications, workers)
        resting = {} if force else at_rest(names)
        if len(resting) == len(names):
            print("\n".join(table([resting_row(name, name, resting[name], parameters) for name in names])))
            return

        from flows.course import conduct

        raise typer.Exit(conduct(applications or [], workers=workers, dask=dask, force=force))


@app.command()
def forecast(application: Application) -> None:
    """What a run will fetch and need: bytes, disk, memory, hours if known, licence."""
    with explained(f"forecast {application}"):
        from tasks.forecast import forecast as look_ahead

        print(look_ahead(application).text())


@app.command()
def consent(
    application: Application,
    yes: Annotated[bool, typer.Option("--yes", help="accept without being asked")] = False,
) -> None:
    """Read and accept the terms of data that is for non-commercial use only."""
    with explained(f"consent {application}"):
        from tasks.consent import record_consent
        from tasks.forecast import forecast as look_ahead

        ahead = look_ahead(application)
        if ahead.consent is None:
            print(f"{ahead.source}: {ahead.licence}. No consent is asked for.")
            return
        print(f"{ahead.title}: {ahead.licence}")
        if not yes and not typer.confirm("Do you accept these terms?"):
            raise ValueError("not accepted; nothing was recorded")
        print(f"recorded in {record_consent(ahead.source, ahead.licence, workspace=checkout())}")


@app.command()
def edition(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="a file of editions/, such as sample")
    ] = None,
    mirror: Annotated[
        str | None, typer.Option(help="folder or address with a MANIFEST.json; '' for none")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="path.to.key=value", help="a single value, typed as in YAML"),
    ] = None,
) -> None:
    """Write an edition, a mirror or single values into params.yaml; its comments stay."""
    with explained(f"edition {name or ''}".strip()):
        from flows.editions import apply

        if name is None and mirror is None and not settings:
            raise ValueError("name an edition, a --mirror or a --set path.to.key=value")
        changed = apply(Path.cwd(), name, mirror=mirror, settings=settings)
        print("\n".join(changed) or "params.yaml has these values already")


@app.command()
def serve(
    applications: Scheduled = None,
    limit: Annotated[int, typer.Option(min=1, help="applications at once")] = 1,
    webhook: Webhook = None,
) -> None:
    """Run applications by their schedules in params.yaml, in processes of this one."""
    with explained("serve"):
        os.environ |= server.UNATTENDED  # before prefect is imported
        from flows.schedules import serve as serve_schedules

        serve_schedules(_chosen(applications or ["all"]), Path.cwd(), limit=limit, webhook=webhook)


@app.command()
def deploy(
    applications: Scheduled = None,
    pool: Annotated[str, typer.Option(help="work pool; made where it does not exist")] = "practicum",
    limit: Annotated[int | None, typer.Option(min=1, help="runs of the pool at once (new pool: 1)")] = None,
    webhook: Webhook = None,
) -> None:
    """Put applications and their schedules on the Prefect server, for the workers of a pool."""
    with explained("deploy"):
        from flows.schedules import deploy as put

        for line in put(
            _chosen(applications or ["all"]), Path.cwd(), pool=pool, limit=limit, webhook=webhook
        ):
            print(line, flush=True)
        print(f"each worker, in a checkout: prefect worker start --pool {pool}")


@app.command("find-rate")
def find_rate(
    application: Application,
    phase: Annotated[int, typer.Option(help="which phase of fine_tune.phases, from 1")] = 1,
) -> None:
    """Train a few steps while the learning rate rises, and draw the loss over it."""
    with explained(f"find-rate {application}"):
        from tasks.rates import find_rates

        found = find_rates(application, phase=phase)
        for name in ("steepest", "minimum", "valley"):
            print(f"{name:<9} {getattr(found.curve, name):.2g}")
        print(f"drawn in {found.figure}, as numbers in {found.table}")


@app.command()
def repeat(
    application: Application,
    seeds: Annotated[int, typer.Option(help="repetitions with a seed and a split each")] = 0,
    folds: Annotated[int, typer.Option(help="parts of a cross-validation")] = 0,
) -> None:
    """Repeat split to evaluate in side workspaces, and write docs/results/APP.json."""
    with explained(f"repeat {application}"):
        from tasks.repeat import repeat as repetitions

        path = repetitions(application, seeds=seeds, folds=folds)
        print(f"written: {path.relative_to(Path.cwd())} (`python -m flows results` makes the page from it)")


@app.command()
def sweep(
    application: Application,
    trials: Annotated[int, typer.Option(help="in all, those of earlier starts included")] = 20,
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=VALUES", help="LOW..HIGH, xLOW..HIGH (a factor), :log behind either; or A,B,C"
        ),
    ] = None,
    space: Annotated[Path | None, typer.Option(metavar="FILE", help="the same as YAML, PATH: VALUES")] = None,
    hours: Annotated[float | None, typer.Option(help="after which no further trial is begun")] = None,
    workers: Annotated[int, typer.Option(help="trials at once, a process each")] = 1,
    seed: Annotated[int, typer.Option(help="of what is tried")] = 42,
    apply: Annotated[bool, typer.Option("--apply", help="write the best into params.yaml")] = False,
) -> None:
    """Search settings of fine_tune by the validation part; the same command goes on where it stopped."""
    with explained(f"sweep {application}"):
        from tasks.sweep import sweep as search

        found = search(
            application, trials=trials, over=over or (), space=space, hours=hours, workers=workers, seed=seed
        )
        print(found.text())
        if apply and found.settings:
            from flows.editions import apply as write

            print("\n".join(["written into params.yaml:", *write(Path.cwd(), settings=list(found.settings))]))


@app.command()
def results() -> None:
    """Make docs/results.md and the README's table from docs/results/*.json."""
    with explained("results"):
        from tasks.results import write_results

        changed = [str(path.relative_to(Path.cwd())) for path in write_results(Path.cwd())]
        print("\n".join(changed) or "both are up to date")


@app.command()
def predict(
    application: Application,
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER...", help="what to predict")],
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="write answers that are files (masks) here")
    ] = None,
) -> None:
    """Answers of the exported model for files and folders, as CSV; answers that are files as base64 text."""
    with explained(f"predict {application}"):
        from tasks.predict import predict as answers
        from tasks.predict import without_bytes

        print(without_bytes(answers(application, paths), save).to_csv(index=False), end="")


@app.command()
def compare(
    application: Application,
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN RUN]", help="ids or their first letters, or `current` for artifacts/"),
    ] = None,
    limit: Annotated[int, typer.Option(help="newest runs in the table")] = 6,
    trials: Annotated[bool, typer.Option("--trials", help="those of searches as well")] = False,
    shown: Annotated[int, typer.Option(help="items listed")] = 20,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="write every item of both runs")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="everything, for machines")] = False,
    log: Annotated[bool, typer.Option(help="put the items that differ into the second run")] = False,
) -> None:
    """Runs side by side: parameters that differ, metrics, and which items two runs judge differently."""
    with explained(f"compare {application}"):
        from tasks.compare import compare as side_by_side
        from tasks.compare import log_changes, write_items
        from tasks.comparison_text import as_text

        found = side_by_side(application, runs or (), limit=limit, trials=trials)
        print(found.as_json() if as_json else as_text(found, shown=shown))
        if csv is not None:
            write_items(found, csv)
        if log:
            print(f"logged: {log_changes(found)}", file=sys.stderr)


@app.command()
def register(application: Application) -> None:
    """Register the export in MLflow, once per digest, as challenger; champion if it is better."""
    with explained(f"register {application}"):
        from tasks.register import register as enter

        entered = enter(application)
        news = "new" if entered.created else "registered before"
        print(f"{entered.name} version {entered.version} ({news}), digest {entered.digest}")
        print(f"champion: version {entered.champion}; {entered.reason}")


@app.command()
def where(applications: Annotated[list[str], typer.Argument(metavar="APP...")]) -> None:
    """Where metrics, figures, the exported model and the record of runs are."""
    _say_where(_chosen(applications))


@app.command()
def ui(port: Annotated[int, typer.Option(help="of the loopback")] = 5000) -> None:
    """MLflow's pages on the runs of this checkout."""
    with explained("ui"):
        from tasks.tracking import open_store, page

        store = open_store(checkout())
        if store.artifacts is None:
            print(f"runs are recorded on a server; open {page(store.uri)}")
            return
        assert store.client  # makes the tables
        print(f"open {page(f'http://127.0.0.1:{port}')}", flush=True)
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
            "--backend-store-uri", store.uri, "--default-artifact-root", store.artifacts.as_uri(),
        ]  # fmt: skip
        os.execv(sys.executable, command)


@app.command()
def doctor() -> None:
    """Check installation, disk, accelerator and stores; exit status 1 where something is wrong."""
    from flows.doctor import examine

    bad = False
    for finding in examine(checkout()):
        print(finding, flush=True)
        bad = bad or finding.good is False
    raise typer.Exit(1 if bad else 0)


def _chosen(names: list[str]) -> list[str]:
    if names != ["all"]:
        return names
    with explained("all"):
        from tasks.parameters import load_parameters

        return list(load_parameters(Path.cwd() / "params.yaml").applications)


def _say_where(applications: list[str]) -> None:
    with explained(f"where {' '.join(applications)}"):
        from flows.explain import headline_of
        from tasks.parameters import load_parameters
        from tasks.tracking import tracking_uri

        workspace = checkout()
        parameters = load_parameters(workspace.root / "params.yaml")
        runs = tracking_uri(workspace)
        for application in applications:
            evaluated = workspace.folder(application, "evaluate").relative_to(workspace.root)
            print(f"{application}: {headline_of(application, parameters)}")
            print(f"  metrics  {evaluated / 'metrics.json'} (`dvc metrics show`, `dvc plots show`)")
            print(f"  figures  {evaluated / 'figures'}")
            print(f"  model    {workspace.folder(application, 'export').relative_to(workspace.root)}")
            print(f"  runs     `make ui` shows MLflow's pages on {runs}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # in order, or a temporary server would stay
    server.prepare(Path.cwd())
    app()
