"""Tells a plan how cells ended earlier."""

from __future__ import annotations

from collections.abc import Callable

from qpabench.errors import DamagedError
from qpabench.records.store import RunDirectory


def finished_lookup(directory: RunDirectory, notes: list[str]) -> Callable[[str], tuple[str, str] | None]:
    """Return a function from a cell's id to (status, reason), or None where there is no record.

    Args:
        directory: the run directory.
        notes: gets a line for each damaged record that was set aside.

    Raises:
        NewerFormatError: on use, a record was written by a newer qpabench.
        StorageError: on use, a record may not be read.
    """

    def look_up(cell_id: str) -> tuple[str, str] | None:
        try:
            record = directory.read(cell_id, thorough=True)
        except DamagedError as error:
            notes.append(str(error))
            return None
        return None if record is None else (record.status, record.reason)

    return look_up
