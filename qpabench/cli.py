"""The command line: parse, call, print. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from qpabench.errors import InputError, QpabenchError, one_line

app = typer.Typer(
    name="qpabench",
    help="Measure Quantum Parameter Adaptation and its classical rivals on the same footing.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
plugin_app = typer.Typer(help="Write and check plugins.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(plugin_app, name="plugin")

INTERRUPTED = 130
#: where a report is read from
PAGES = ("report.md", "gradient-variance.md")
#: click's error for a wrong command line; some versions of typer bring click along under another name
_UsageError: Any = typer.BadParameter.__bases__[0]

SuiteFile = Annotated[Path, typer.Argument(help="a suite in TOML", show_default=False)]
Profile = Annotated[str | None, typer.Option(help="a [profiles.NAME] table of the suite")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, for instance train.epochs=1")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda or cuda:N: where every cell runs, whatever the suite says")
]
Only = Annotated[str | None, typer.Option(help="which cells, for instance 'generator=qpa and n_qubits>=8'")]
Out = Annotated[Path | None, typer.Option(help="run directory; default: reports/<suite name>")]
MaxCells = Annotated[int, typer.Option(min=1, help="refuse suites that cross to more cells")]
Directory = Annotated[Path, typer.Argument(help="a run directory", show_default=False)]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="run cells that failed earlier again")]
Fresh = Annotated[bool, typer.Option("--fresh", help="run every cell again, also those with a record")]
Jobs = Annotated[int, typer.Option(min=1, help="cells at a time")]
Offline = Annotated[bool, typer.Option("--offline", help="never ask the hub")]


def main() -> None:
    """Run the command line; every expected error is one line and an exit code."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except _UsageError as error:
        message = error.format_message()
        if "\n" in message:  # the help, shown where no command is given
            typer.echo(message, err=True)
        else:
            command = error.ctx.command_path if error.ctx is not None else "qpabench"
            typer.echo(f"error: {one_line(message)} See `{command} --help`.", err=True)
        sys.exit(error.exit_code)
    except QpabenchError as error:
        typer.echo(f"error: {one_line(error, 600)}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)


@app.command()
def run(
    suite: SuiteFile,
    profile: Profile = None,
    settings: Settings = None,
    device: Device = None,
    only: Only = None,
    out: Out = None,
    executor: Annotated[str, typer.Option(help="where cells run")] = "local",
    jobs: Jobs = 1,
    retry_failed: RetryFailed = False,
    fresh: Fresh = False,
    max_cells: MaxCells = 10_000,
    offline: Offline = False,
) -> None:
    """Run what is missing, show progress, write the report. Run again to resume."""
    _offline(offline)
    command = shlex.join(["qpabench", *sys.argv[1:]])
    measured = ""
    try:
        from rich.console import Console

        from qpabench.display import RunDisplay
        from qpabench.reports.report import write_report
        from qpabench.running.runner import run_plan
        from qpabench.suite.plan import profile_that_runs

        registry, plan, root, notes = _planned(
            suite, profile, settings, device, only, out, max_cells, retry_failed=retry_failed, fresh=fresh
        )
        measured = f"what was measured is in {root}; "
        registry.find("executor", executor)
        for note in notes:
            typer.echo(f"damaged: {one_line(note, 600)}", err=True)
        waiting = sum(planned.status == "run" for planned in plan.cells)
        typer.echo(f"{len(plan.cells)} cells, {waiting} to run; records go to {root}")
        with RunDisplay(Console(stderr=False), waiting) as display:
            outcome = run_plan(
                plan, registry, root, display, command=command, executor=executor, jobs=jobs, fresh=fresh
            )
        paths = write_report(root)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {measured}resume with: {command}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    for line in outcome.complaints:
        typer.echo(f"warning: {one_line(line)}", err=True)
    for label, status, reason in outcome.failures:
        typer.echo(f"{status}: {one_line(label)}: {one_line(reason)}", err=True)
    counts = ", ".join(f"{number} {status}" for status, number in sorted(outcome.statuses.items()))
    typer.echo(f"{counts}; report: {next((p for p in paths if p.name in PAGES), root)}")
    for (status, reason), number in sorted(outcome.refused.items()):
        typer.echo(f"{number} {status}: {one_line(reason)}")
    if "unavailable" in outcome.statuses:
        if plan.document.profiles and plan.document.profile is None:
            typer.echo(f"profiles of this suite: {', '.join(plan.document.profiles)} (--profile NAME)")
        if here := profile_that_runs(suite, registry, plan.document.profiles, max_cells):
            typer.echo(f"runs here: --profile {here}")
    raise typer.Exit(outcome.exit_code)


@app.command()
def plan(
    suite: SuiteFile,
    profile: Profile = None,
    settings: Settings = None,
    device: Device = None,
    only: Only = None,
    out: Out = None,
    retry_failed: RetryFailed = False,
    fresh: Fresh = False,
    max_cells: MaxCells = 10_000,
    offline: Offline = False,
    jobs: Jobs = 1,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="measure this machine for the estimate; kept in the cache")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="a list of objects")] = False,
) -> None:
    """Show every cell: run, cached, unsupported, unavailable and why; and what it would take here.

    Needs neither weights nor network.
    """
    _offline(offline)
    from qpabench.costs import kept
    from qpabench.costs.estimate import costs
    from qpabench.costs.summary import summary
    from qpabench.running.executor import threads_for

    _, planned, _, _ = _planned(
        suite, profile, settings, device, only, out, max_cells, retry_failed=retry_failed, fresh=fresh
    )
    cells, threads = [one.cell for one in planned.cells], threads_for(jobs)
    calibration = kept.calibrate(cells, threads) if calibrate else kept.kept(threads)
    estimates = costs(cells, calibration)
    rows = [
        {**one.to_json(), "estimate": cost.to_json()}
        for one, cost in zip(planned.cells, estimates, strict=True)
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    columns = {
        "status": "status",
        "n_qubits": "qubits",
        "n_chunks": "chunks",
        "n_generated": "generated",
        "n_trainable": "trainable",
        "n_theta": "theta",
        "circuits_per_step": "circuits/step",
        "label": "cell",
        "reason": "reason",
    }
    _print_table(list(columns.values()), [[_shown(row[key]) for key in columns] for row in rows])
    typer.echo("")
    for line in summary(planned.cells, estimates, jobs=jobs, threads=threads):
        typer.echo(one_line(line, 400))


@app.command()
def report(directory: Directory) -> None:
    """Write the report again, from records alone."""
    from qpabench.reports.report import write_report

    for path in write_report(directory):
        typer.echo(str(path))


@app.command()
def compare(
    directory_a: Annotated[Path, typer.Argument(help="run directory A", show_default=False)],
    directory_b: Annotated[Path, typer.Argument(help="run directory B", show_default=False)],
    gate: Annotated[bool, typer.Option("--gate", help="exit 1 on a regression or a vanished cell")] = False,
    everything: Annotated[bool, typer.Option("--all", help="also what stayed the same")] = False,
) -> None:
    """Compare two runs metric by metric, cells paired."""
    from qpabench.reports.compare import compare as compare_runs
    from qpabench.reports.compare_text import to_text

    found = compare_runs(directory_a, directory_b)
    typer.echo(to_text(found, everything=everything), nl=False)
    if gate and found.regressions:
        raise typer.Exit(1)


@app.command()
def export(
    directory: Directory,
    cell: Annotated[str, typer.Argument(help="id, a unique beginning of it, or label", show_default=False)],
    to: Annotated[Path, typer.Option(help="the adapter's folder, new or empty", show_default=False)],
    offline: Offline = False,
) -> None:
    """Write a trained cell as a PEFT adapter that loads without qpabench or any quantum package."""
    _offline(offline)
    from qpabench.export import export as export_cell
    from qpabench.hooks.manager import load_registry

    done = export_cell(directory, cell, to, load_registry())
    if done.metrics is not None:
        typer.echo("the cell's numbers are drawn anew in every pass; one draw is exported, measured again:")
        for name, value in sorted(done.metrics.items()):
            if name in done.record.metrics and name.startswith(("perplexity", "bits_per_byte")):
                typer.echo(f"{name}: {done.record.metrics[name]:.6g} in the run, {value:.6g} as exported")
    for path in done.paths:
        typer.echo(str(path))


@app.command("list")
def list_plugins(
    kind: Annotated[
        str | None, typer.Argument(help="backends, ansatze, targets, ...", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="a list of objects")] = False,
) -> None:
    """Show what is installed, and by whom."""
    from qpabench.errors import nearest
    from qpabench.hooks.manager import KINDS, PLURAL, load_registry

    kinds = {**{plural: entry.kind for plural, entry in KINDS.items()}, **{k: k for k in PLURAL}}
    if kind is not None and kind not in kinds:
        raise InputError(f"list: found kind {one_line(kind, 40)!r}; {nearest(kind, KINDS)}")
    registry = load_registry()
    rows: list[dict[str, str]] = []
    for singular in [kinds[kind]] if kind else [entry.kind for entry in KINDS.values()]:
        for found in registry.of_kind(singular):
            rows.append(
                {
                    "kind": singular,
                    "name": found.entry.name,
                    "distribution": found.source.distribution,
                    "version": found.source.version,
                    "summary": found.entry.summary,
                }
            )
    rows += [
        {
            "kind": clash_kind,
            "name": name,
            "distribution": " and ".join(source.distribution for source in sources),
            "version": " and ".join(source.version for source in sources),
            "summary": "CONFLICT: two plugins claim this name; uninstall one",
        }
        for (clash_kind, name), sources in registry.conflicts.items()
        if kind is None or kinds[kind] == clash_kind
    ]
    rows += [
        {
            "kind": "plugin",
            "name": broken.source.plugin,
            "distribution": broken.source.distribution,
            "version": broken.source.version,
            "summary": f"BROKEN: {broken.cause}",
        }
        for broken in registry.broken
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        _print_table(
            ["kind", "name", "from", "summary"],
            [[r["kind"], r["name"], f"{r['distribution']} {r['version']}", r["summary"]] for r in rows],
        )
    for broken in registry.broken:
        typer.echo(
            f"warning: plugin {broken.source.plugin!r} of {broken.source} is broken: {broken.cause}", err=True
        )


@app.command()
def doctor(
    self_test: Annotated[bool, typer.Option(help="run one small circuit on every backend")] = True,
) -> None:
    """Show what is missing and the command that installs it; hardware, caches, backends tested."""
    from qpabench.doctor import diagnose

    healthy = True
    for line, ok in diagnose(self_test=self_test):
        typer.echo(line)
        healthy &= ok
    raise typer.Exit(0 if healthy else 1)


@plugin_app.command("new")
def plugin_new(
    name: Annotated[str, typer.Argument(help="lower case letters, digits and hyphens", show_default=False)],
    folder: Annotated[Path, typer.Option(help="where the package is made")] = Path(),
) -> None:
    """Write an installable backend plugin to start from."""
    from qpabench.testing.scaffold import scaffold

    for path in scaffold(name, folder):
        typer.echo(str(path))


@plugin_app.command("check")
def plugin_check(
    name: Annotated[str, typer.Argument(help="name of a backend", show_default=False)],
    settings: Annotated[list[str] | None, typer.Option("--set", help="OPTION=VALUE of the backend")] = None,
) -> None:
    """Run the conformance kit on a backend."""
    from qpabench.testing.command import check_backend

    passed = True
    for result in check_backend(name, settings or []):
        verdict = "ok" if result.passed else "FAILED"
        typer.echo(
            f"{verdict:6}  {result.name:32} {result.seconds:6.2f} s  {one_line(result.reason, 400)}".rstrip()
        )
        passed &= result.passed
    raise typer.Exit(0 if passed else 1)


def _planned(
    suite: Path,
    profile: str | None,
    settings: list[str] | None,
    device: str | None,
    only: str | None,
    out: Path | None,
    max_cells: int,
    *,
    retry_failed: bool,
    fresh: bool,
) -> tuple[Any, Any, Path, list[str]]:
    from qpabench.hooks.manager import load_registry
    from qpabench.records.lookup import finished_lookup
    from qpabench.records.store import RunDirectory
    from qpabench.suite.document import device_setting, read_document
    from qpabench.suite.plan import make_plan

    chosen = [*(settings or ()), *([] if device is None else [device_setting(device)])]
    registry = load_registry()
    root = out or Path("reports") / read_document(suite, profile, chosen).name
    notes: list[str] = []
    made = make_plan(
        suite,
        registry,
        profile=profile,
        settings=chosen,
        only=only,
        max_cells=max_cells,
        finished=finished_lookup(RunDirectory(root), notes),
        retry_failed=retry_failed,
        fresh=fresh,
    )
    return registry, made, root, notes


def _offline(offline: bool) -> None:
    if offline:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else one_line(value)


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    """Print columns aligned, numbers to the right; nothing is cut, so that output can be searched."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        cells = []
        for text, width in zip(row, widths, strict=True):
            number = text.replace(",", "").isdigit()
            cells.append(text.rjust(width) if number else text.ljust(width))
        typer.echo("  ".join(cells).rstrip())
