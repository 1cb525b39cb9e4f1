"""The record of one cell, and the history of its format.

Format history:

1. First format: ``cell, status, reason, metrics, timing, provenance, content_hash``.
2. ``files``: size and SHA-256 of what lies beside the record, so that a file of another run is noticed.

``content_hash`` is made alike in every format: the hash of all the rest, whatever it is.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from qpabench.errors import DamagedError, NewerFormatError, one_line

SCHEMA_VERSION = 2
Status = Literal["ok", "failed", "timeout", "out-of-memory", "unsupported", "unavailable"]
STATUSES: tuple[Status, ...] = get_args(Status)
#: metrics that depend on the machine's speed or memory, never on what was computed
MACHINE_METRICS = ("step_seconds_median", "train_seconds", "eval_seconds", "peak_memory_bytes")


@dataclass(frozen=True)
class Record:
    """What is known of one cell after it ended.

    Args:
        cell: the fields of ``plan --json``, every option, and the identities of weights and data.
        status: how it ended.
        reason: why it isn't ok; empty when it is.
        metrics: name -> number; what wasn't measured is absent.
        timing: where the time went, in seconds, and whether other cells ran beside it.
        provenance: versions, commit, hardware, seeds, thread counts.
        files: ending -> ``bytes`` and ``sha256`` of a file beside the record; None where the format had none.
    """

    cell: Mapping[str, Any]
    status: Status
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    timing: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, Any]] | None = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The cell's id."""
        return str(self.cell["id"])

    @property
    def label(self) -> str:
        """The cell's label."""
        return str(self.cell.get("label", self.id))

    def to_json(self) -> str:
        """Return the record as JSON text, keys sorted, with its content hash."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "cell": dict(self.cell),
            "status": self.status,
            "reason": self.reason,
            "metrics": dict(self.metrics),
            "timing": dict(self.timing),
            "provenance": dict(self.provenance),
            "files": {ending: dict(about) for ending, about in (self.files or {}).items()},
        }
        content["content_hash"] = content_hash(content)
        return json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"


def content_hash(content: Mapping[str, Any]) -> str:
    """Hash a record's content (without the hash itself), to notice edits and damage."""
    kept = {key: value for key, value in content.items() if key != "content_hash"}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def strict_json(text: str) -> Any:
    """Read JSON whose numbers are finite and fit into 64 bits, as all that is written here.

    Raises:
        ValueError: it isn't that.
    """

    def whole(digits: str) -> int:
        if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
            raise ValueError(f"found {one_line(digits, 40)}, expected a number within 64 bits")
        return int(digits)

    def real(digits: str) -> float:
        if not math.isfinite(number := float(digits)):
            raise ValueError(f"found {one_line(digits, 40)}, expected a finite number")
        return number

    return json.loads(text, parse_int=whole, parse_float=real, parse_constant=real)


def from_json(text: str) -> Record:
    """Read a record.

    Args:
        text: the content of a record file.

    Raises:
        DamagedError: not JSON, fields missing, or edited by hand.
        NewerFormatError: written by a newer qpabench.
    """
    try:
        content = strict_json(text)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"not JSON ({one_line(error)}); delete it to run the cell again") from error
    if not isinstance(content, dict):
        raise DamagedError("found no JSON object; delete it to run the cell again")
    version, hashed = content.get("schema_version"), content.get("content_hash")
    whole = hashed == content_hash(content)
    newer = isinstance(version, int) and version > SCHEMA_VERSION
    if newer and (whole or hashed is None):
        raise NewerFormatError(
            f"found schema_version {one_line(version, 40)}, this qpabench reads up to {SCHEMA_VERSION}; "
            "upgrade qpabench"
        )
    if not newer and (type(version) is not int or version < 1):
        raise DamagedError(
            f"found schema_version {one_line(repr(version), 40)}, expected 1 to {SCHEMA_VERSION}; "
            "delete it to run the cell again"
        )
    if not whole:
        raise DamagedError(
            "content hash differs: the file was edited or damaged; delete it to run the cell again"
        )
    cell, metrics = content.get("cell"), content.get("metrics")
    if not isinstance(cell, dict) or "id" not in cell or not isinstance(metrics, dict):
        raise DamagedError("fields cell.id or metrics are missing; delete it to run the cell again")
    if not all(isinstance(content.get(name, {}), dict) for name in ("timing", "provenance")):
        raise DamagedError("timing or provenance is no JSON object; delete it to run the cell again")
    if content.get("status") not in STATUSES:
        raise DamagedError(f"found status {content.get('status')!r}, expected one of {', '.join(STATUSES)}")
    if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in metrics.values()):
        raise DamagedError("found a metric that isn't a finite number")
    return Record(
        cell=cell,
        status=content["status"],
        reason=str(content.get("reason", "")),
        metrics=metrics,
        timing=content.get("timing", {}),
        provenance=content.get("provenance", {}),
        files=_files(content) if version != 1 else None,
    )


def _files(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    files = content.get("files")
    whole = isinstance(files, dict) and all(
        isinstance(about, dict) and type(about.get("bytes")) is int and isinstance(about.get("sha256"), str)
        for about in files.values()
    )
    if not whole:
        raise DamagedError("files isn't a table of sizes and hashes; delete it to run the cell again")
    return dict(content["files"])
