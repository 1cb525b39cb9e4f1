"""``gradient-variance.md`` and its figures, where a suite asks for gradients at random angles."""

from __future__ import annotations

from pathlib import Path

from qpabench.records.store import RunDirectory
from qpabench.reports import measured, tables
from qpabench.reports.markdown import Markdown, code, escape, render
from qpabench.reports.run import Run
from qpabench.reports.style import plain_style, svg_and_png
from qpabench.reports.variance import Direction, ladders, points_of
from qpabench.reports.variance_figures import draw_ladders
from qpabench.reports.variance_text import RULE, conclusions, fits_table, points_table

NAME = "gradient-variance.md"
FIGURES = ("variance-over-qubits", "variance-over-repetitions")
_DIRECTIONS: tuple[Direction, ...] = ("n_qubits", "n_layers")


def variance_files(run: Run, root: Path) -> dict[str, bytes]:
    """Return the report's files by name.

    Args:
        run: whose manifest says ``variance``.
        root: the run directory.
    """
    problems = list(run.problems)
    points = points_of(run.records, RunDirectory(root), problems)
    by_direction = [ladders(points, direction) for direction in _DIRECTIONS]
    files: dict[str, bytes] = {}
    embedded: list[Markdown | None] = []
    with plain_style():
        for stem, found in zip(FIGURES, by_direction, strict=True):
            drawn = draw_ladders(found)
            embedded.append(None)
            if drawn is None:
                continue
            for suffix, content in svg_and_png(drawn.figure).items():
                files[f"figures/{stem}.{suffix}"] = content
            alt = escape(stem.replace("-", " "))
            embedded[-1] = Markdown(f"![{alt}](figures/{stem}.svg)\n\n*{escape(drawn.caption)}*")
    manifest = run.manifest
    command = manifest.get("command")
    tokens = sorted({int(r.metrics["n_tokens"]) for r in run.ok if "n_tokens" in r.metrics})
    counted = f"{len(points)} variances"
    if tokens:
        counted += f"; the loss at {', '.join(map(str, tokens))} scored tokens"
    files[NAME] = render(
        "gradient-variance.md.j2",
        {
            "title": manifest.get("title") or manifest.get("suite") or "Gradient variance",
            "purpose": manifest.get("summary"),
            "counted": f"{counted}.",
            "over_qubits": conclusions(by_direction[0]),
            "over_layers": conclusions(by_direction[1]),
            "figure_qubits": embedded[0],
            "figure_layers": embedded[1],
            "rule": Markdown(RULE),
            "fits": fits_table([one for found in by_direction for one in found]),
            "points": points_table(points),
            "not_ok": tables.not_ok(run),
            "problems": problems,
            "command": code(command) if command else None,
            "settings": measured.settings(run),
            "provenance": measured.provenance(run),
        },
    ).encode()
    return files
