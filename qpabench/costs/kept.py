"""What was measured on this machine, kept in the cache; read without torch."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qpabench import compiled
from qpabench.cache import cache_dir
from qpabench.costs.pieces import Piece
from qpabench.errors import QpabenchError, one_line
from qpabench.records.provenance import hardware, package_versions
from qpabench.suite.cell import Cell
from qpabench.suite.variance import Point

SCHEMA_VERSION = 2  # also where the same pieces take another time than before


@dataclass(frozen=True)
class Calibration:
    """Measured pieces by their key.

    Args:
        pieces: what ``measure`` gave: numbers, or ``{"failed": reason}``.
    """

    pieces: Mapping[Piece, Mapping[str, Any]] = field(default_factory=dict)


def machine(threads: int) -> dict[str, object]:
    """Return what a measured time depends on besides the piece: change one, and nothing kept is used.

    Args:
        threads: of one worker.
    """
    return {
        "cpu": hardware()["cpu"],
        "threads": threads,
        "loops": compiled.in_use(),
        **package_versions(("torch", "qpabench")),
        "schema_version": SCHEMA_VERSION,
    }


def kept(threads: int) -> Calibration:
    """Return what was measured on this machine before, nothing if nothing was or the file can't be read."""
    try:
        content = json.loads(_path(threads).read_text(encoding="utf-8"))
        pieces = content["pieces"]
    except (OSError, ValueError, KeyError, TypeError):
        return Calibration()
    return Calibration(pieces if isinstance(pieces, dict) else {})


def calibrate(cells: Sequence[Cell | Point], threads: int) -> Calibration:
    """Measure what these cells are made of, in a process of its own, and keep it beside what is known.

    Args:
        cells: of a plan; each distinct piece is measured once.
        threads: of one worker.

    Raises:
        QpabenchError: the measuring process ended without a result.
    """
    request = {"threads": threads, "cells": [cell.to_json() for cell in cells if isinstance(cell, Cell)]}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "qpabench.costs.measure", str(result)]
        done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
        try:
            found = json.loads(result.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            last = done.stderr.strip().rpartition("\n")[2]
            raise QpabenchError(
                f"calibration ended with exit code {done.returncode} and no result: {one_line(last)}"
            ) from error
    pieces = {**kept(threads).pieces, **found}
    _keep(threads, {"machine": machine(threads), "pieces": pieces})
    return Calibration(pieces)


def _path(threads: int) -> Path:
    name = json.dumps(machine(threads), sort_keys=True)
    return cache_dir() / "calibration" / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"


def _keep(threads: int, content: Mapping[str, object]) -> None:
    path = _path(threads)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError:  # a cache that can't be written costs a calibration a plan, nothing else
        with suppress(OSError):
            draft.unlink()
