"""Records -> report: one folder, rebuilt byte for byte by whoever has the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from qpabench.errors import RecordError
from qpabench.records.store import RunDirectory, write_atomically
from qpabench.reports import figures, measured, members, results, selected, summary, tables
from qpabench.reports.circuits import circuits
from qpabench.reports.differs import differs
from qpabench.reports.groups import Context
from qpabench.reports.markdown import Markdown, code, escape, render
from qpabench.reports.run import Run, load_run
from qpabench.reports.style import plain_style, svg_and_png
from qpabench.reports.variance_files import FIGURES as VARIANCE_FIGURES
from qpabench.reports.variance_files import variance_files
from qpabench.reports.verdict_files import FIGURES as VERDICT_FIGURES
from qpabench.reports.verdict_files import NAME as VERDICT
from qpabench.reports.verdict_files import verdict_files

_FIGURES = ("perplexity", "loss", "time")


def write_report(root: Path) -> list[Path]:
    """Write ``report.md``, ``figures/``, ``results.csv`` and ``results.parquet`` from the records.

    Where the suite asks for gradients at random angles, ``gradient-variance.md`` in place of ``report.md``.
    Where it asks for a verdict, ``verdict.md`` too. Where it includes others, ``report.md`` is a front
    page, each included suite has a file of its own, and ``published.md`` has the paper's tables.

    Args:
        root: a run directory.

    Returns:
        The files written.

    Raises:
        InputError: it isn't a run directory, or a verdict would compare what can't be compared.
        StorageError: a file can't be written.
    """
    run = load_run(root)
    found = results.columns(run.records)
    files: dict[str, bytes] = {
        "results.csv": results.to_csv(found),
        "results.parquet": results.to_parquet(found),
    }
    if run.manifest.get("variance"):
        return _written(root, {**variance_files(run, root), **files})
    parts = {str(one["name"]): load_run(root, one) for one in members.members_of(run.manifest)}
    for name, part in parts.items():
        files[f"{name}.md"] = _page(part, root, f"{name}-", files, everything=False).encode()
    if parts:
        files[members.PUBLISHED] = members.published_page(run).encode()
        files["report.md"] = members.front_page(run, parts).encode()
    else:
        files["report.md"] = _page(run, root, "", files, everything=True).encode()
    files |= verdict_files(run)
    return _written(root, files)


def _written(root: Path, files: Mapping[str, bytes]) -> list[Path]:
    _remove_stale(root, files)
    for name, content in files.items():
        write_atomically(root / name, content)
    return [root / name for name in files]


def _page(run: Run, root: Path, prefix: str, files: dict[str, bytes], *, everything: bool) -> str:
    """Return the text of one suite's report; its figures go into ``files``.

    Args:
        run: its cells.
        root: the run directory.
        prefix: of its figures' names.
        files: what was drawn is put here.
        everything: draw also what no suite asks for: losses and where the time goes.
    """
    asked = members.draw_figures(run, prefix, files)
    embedded: list[Mapping[str, Markdown]] = []
    if everything or not asked:
        directory = RunDirectory(root)
        for number, context in enumerate(run.contexts, start=1):
            suffix = "" if len(run.contexts) == 1 else f"-{number}"
            embedded.append(_draw(context, directory, prefix, suffix, files))
    return report_markdown(run, embedded, asked)


def report_markdown(
    run: Run, embedded: Sequence[Mapping[str, Markdown]] = (), asked: Sequence[Markdown] = ()
) -> str:
    """Return the text of the report.

    Args:
        run: what was read from the run directory.
        embedded: for each context its figures, ready to stand in the text; none by default.
        asked: the figures that the suite asks for.
    """
    drawn = embedded or [{}] * len(run.contexts)
    sections = [_section(context, own) for context, own in zip(run.contexts, drawn, strict=True)]
    return render("report.md.j2", _values(run, sections, asked))


def _draw(
    context: Context, directory: RunDirectory, prefix: str, suffix: str, files: dict[str, bytes]
) -> dict[str, Markdown]:
    def series(cell_id: str) -> Mapping[str, NDArray[Any]]:
        try:
            return directory.series(cell_id)
        except RecordError:
            return {}  # named among the report's problems already

    embedded = {}
    with plain_style():
        drawings = (
            figures.perplexity_over_parameters(context),
            figures.training_loss(context, series),
            figures.where_the_time_goes(context),
        )
        for stem, drawn in zip(_FIGURES, drawings, strict=True):
            if drawn is None:
                continue
            for kind, content in svg_and_png(drawn.figure).items():
                files[f"figures/{prefix}{stem}{suffix}.{kind}"] = content
            alt = escape(f"{stem}: {context.title}")
            embedded[stem] = Markdown(
                f"![{alt}](figures/{prefix}{stem}{suffix}.svg)\n\n*{escape(drawn.caption)}*"
            )
    return embedded


def _section(context: Context, drawn: Mapping[str, Markdown]) -> dict[str, object]:
    return {
        "title": context.title,
        "sentences": summary.sentences(context),
        "warnings": summary.warnings(context),
        "ranking": tables.ranking(context),
        "ledger": tables.ledger(context),
        "equal_budget": tables.equal_budget(context),
        "times": tables.times(context),
        "circuits": circuits(context),
        "other": tables.other_metrics(context),
        "some_not_alone": not all(group.alone for group in context.groups),
        "single_runs": all(group.n == 1 for group in context.groups),
        "some_single": any(group.n == 1 for group in context.groups),
        "text_scored": measured.text_scored(context),
        "figures": {stem: drawn.get(stem) for stem in _FIGURES},
    }


def _values(run: Run, sections: list[dict[str, object]], asked: Sequence[Markdown]) -> dict[str, object]:
    manifest = run.manifest
    command = manifest.get("command")
    return {
        "title": manifest.get("title") or manifest.get("suite") or "Report",
        "suite": manifest.get("suite"),
        "profile": manifest.get("profile"),
        "version": manifest.get("version"),
        "command": code(command) if command else None,
        "purpose": manifest.get("summary"),
        "shared": run.shared,
        "usual": run.usual,
        "overview": summary.overview(run),
        "verdict": VERDICT if manifest.get("verdict") else None,
        "asked": asked,
        "published": members.beside_published(run),
        "differs": differs(run) if manifest.get("figures") else [],
        "sections": sections,
        "selected": selected.on_validation(run),
        "not_ok": tables.not_ok(run),
        "problems": run.problems,
        "not_alone_mark": tables.NOT_ALONE,
        "protocols": measured.protocols(run),
        "perplexities": measured.perplexities(run),
        "settings": measured.settings(run),
        "provenance": measured.provenance(run),
    }


def _remove_stale(root: Path, files: Mapping[str, bytes]) -> None:
    """Remove what an earlier report had and this one doesn't; leave everything else alone."""
    if VERDICT not in files:
        (root / VERDICT).unlink(missing_ok=True)
    members.remove_stale_pages(root, files)
    folder = root / "figures"
    for stem in (*_FIGURES, *VERDICT_FIGURES, *VARIANCE_FIGURES):
        for suffix in ("svg", "png"):
            for path in [*folder.glob(f"{stem}.{suffix}"), *folder.glob(f"{stem}-[0-9]*.{suffix}")]:
                if f"figures/{path.name}" not in files:
                    path.unlink(missing_ok=True)
