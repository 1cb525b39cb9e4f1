"""``--only``: a small expression over the fields of ``plan --json`` and every option."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from qpabench.errors import InputError, nearest, one_line
from qpabench.suite.cell import Cell
from qpabench.suite.variance import Point

_TERM = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.-]*)\s*(!=|<=|>=|=|<|>)\s*('[^']*'|\"[^\"]*\"|[^\s,]+)\s*")
_JOINT = re.compile(r"\s*(,|\band\b)\s*")
_EXAMPLE = "for instance 'generator=qpa and n_qubits>=8'"


def selection(expression: str) -> Callable[[Cell | Point], bool]:
    """Compile an expression: comparisons joined by ``and`` or commas; text may hold ``*`` and ``?``.

    Args:
        expression: for instance ``target=lora, chunk_size>=1024, train.learning_rate=0.001``.

    Returns:
        A predicate on cells.

    Raises:
        InputError: the expression can't be read, or names a field no cell has (raised on use).
    """
    terms: list[tuple[str, str, str]] = []
    position = 0
    while True:
        match = _TERM.match(expression, position)
        if not match:
            raise InputError(
                f"--only {one_line(expression, 80)!r}: cannot read from character {position + 1}; "
                f"expected FIELD OP VALUE, {_EXAMPLE}"
            )
        terms.append((match[1], match[2], match[3].strip("'\"")))
        position = match.end()
        if position == len(expression):
            break
        joint = _JOINT.match(expression, position)
        if not joint:
            raise InputError(
                f"--only {one_line(expression, 80)!r}: expected 'and' or a comma at {position + 1}"
            )
        position = joint.end()

    def matches(cell: Cell | Point) -> bool:
        fields = _fields(cell)
        return all(_holds(_look_up(fields, field), operator, value) for field, operator, value in terms)

    return matches


def _fields(cell: Cell | Point) -> Mapping[str, Any]:
    fields = dict(cell.summary())
    for choice in cell.choices:
        fields |= {f"{choice.entry.kind}.{key}": value for key, value in choice.options}
    if isinstance(cell, Point):
        return fields
    fields |= {f"train.{key}": value for key, value in cell.train}
    fields |= {f"evaluate.{key}": value for key, value in cell.evaluate}
    return fields


def _look_up(fields: Mapping[str, Any], field: str) -> Any:
    if field in fields:
        return fields[field]
    if "." in field:  # an option only other cells have
        return None
    raise InputError(f"--only: no cell has a field {one_line(field, 60)!r}; {nearest(field, fields)}")


def _holds(found: Any, operator: str, wanted: str) -> bool:
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        try:
            number = float(wanted)
        except ValueError:
            return operator == "!="
        return {
            "=": found == number,
            "!=": found != number,
            "<": found < number,
            "<=": found <= number,
            ">": found > number,
            ">=": found >= number,
        }[operator]
    if operator == "!=":
        return not fnmatchcase(str(found).lower(), wanted.lower())
    return operator == "=" and found is not None and fnmatchcase(str(found).lower(), wanted.lower())
