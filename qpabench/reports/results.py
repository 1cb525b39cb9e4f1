"""The records as one flat table, for whoever wants to compute on."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from qpabench.errors import one_line
from qpabench.records.record import Record
from qpabench.reports.groups import canonical, flat

_FORMULA = ("=", "+", "-", "@")
Columns = dict[str, list[Any]]


def columns(records: Sequence[Record]) -> Columns:
    """Return one column a field: the cell and its options, status, reason, metrics, timing.

    Args:
        records: one row each, in this order.
    """
    rows = [_row(record) for record in records]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _one_type([row.get(name) for row in rows]) for name in names}


def to_csv(found: Columns) -> bytes:
    """Return the table as CSV; what is absent is an empty cell.

    Control characters are shown as escapes; text that a spreadsheet would take for a formula gets an
    apostrophe in front. The Parquet file has both as they are.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_text(name) for name in found])
    for row in zip(*found.values(), strict=True):
        writer.writerow(["" if value is None else _text(value) for value in row])
    return buffer.getvalue().encode(errors="backslashreplace")


def to_parquet(found: Columns) -> bytes:
    """Return the table as Parquet; what is absent is null."""
    import pyarrow as pa
    from pyarrow import parquet

    arrays = {name: pa.array(values, type=_arrow_type(values)) for name, values in found.items()}
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(arrays), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _row(record: Record) -> dict[str, Any]:
    cell = dict(record.cell)
    options = cell.pop("options", None)
    row: dict[str, Any] = {key: value for key, value in cell.items() if not isinstance(value, dict)}
    row |= {"status": record.status, "reason": record.reason}
    row |= record.metrics
    row |= {f"timing.{key}": value for key, value in flat(record.timing).items() if key}
    row |= {f"options.{key}": value for key, value in flat(options or {}).items() if key}
    nested = {key: value for key, value in cell.items() if isinstance(value, dict)}
    return row | {key: value for key, value in flat(nested).items() if key}


def _one_type(values: Sequence[Any]) -> list[Any]:
    """Make a column of one type: bool, int, float or text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return list(values)
    if kinds <= {int} and all(v is None or -(2**63) <= v < 2**63 for v in values):
        return list(values)
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    texts = [v if v is None or isinstance(v, str) else canonical(v) for v in values]
    return [v if v is None else v.encode(errors="backslashreplace").decode() for v in texts]


def _arrow_type(values: Sequence[Any]) -> Any:
    import pyarrow as pa

    found = next((type(value) for value in values if value is not None), str)
    return {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}.get(found, pa.string())


def _text(value: object) -> str:
    if not isinstance(value, str):
        return repr(value) if isinstance(value, float) else str(value)
    shown = one_line(value, len(value) * 10 + 1)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown
