"""What was injected and what came of it: the table at the end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

HEADER = ("fault", "times injected", "cells lost", "cells wrong", "files set aside", "note")


@dataclass(frozen=True)
class Row:
    """One fault.

    Args:
        fault: what was done.
        injected: how often.
        lost: planned cells without one readable record at the end, or counted twice.
        wrong: cells whose metrics or series differ from the undisturbed run's.
        aside: files set aside or made again.
        note: why it couldn't be done here.
    """

    fault: str
    injected: int
    lost: int = 0
    wrong: int = 0
    aside: int = 0
    note: str = ""


def as_text(rows: Sequence[Row]) -> str:
    """Return the table in columns."""
    cells = [HEADER, *(tuple(map(str, astuple(row))) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def write_markdown(path: Path, rows: Sequence[Row], seconds: float, scale: float, source: str) -> None:
    """Write the table as Markdown."""
    body = [HEADER, ("---",) * len(HEADER), *(tuple(map(str, astuple(row))) for row in rows)]
    lines = [
        "# Faults injected into real runs",
        "",
        f"Made by `tox run -e faults` in {seconds:.0f} s on {os.cpu_count()} cores; {source}"
        + ("." if scale == 1 else f", with {scale:g} times the usual number of injections."),
        "",
        *("| " + " | ".join(line) + " |" for line in body),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
