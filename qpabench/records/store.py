"""A run directory: whole records or none, and the manifest that says which belong to the suite.

```
DIR/run.json             title, suite, selection, the planned cell ids in order
DIR/records/<id>.json    one a cell
DIR/records/<id>.npz     its series (training loss, NLL per token), no pickle
DIR/records/<id>.safetensors   what was trained
DIR/records/damaged/     files that could not be read, set aside
```
"""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qpabench.errors import InputError, RecordError
from qpabench.records.record import Record, from_json

Series = Mapping[str, NDArray[Any]]
_ID = re.compile(r"[0-9a-f]{16}")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either whole or as before.

    Args:
        path: the file.
        content: all of it.

    Raises:
        RecordError: the disk is full, or the folder can't be written to.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)  # noqa: PTH105 - same file system by construction
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise RecordError(
            f"{path}: cannot write ({error.strerror}); free space or allow writing, then run again"
        ) from error


class RunDirectory:
    """Reads and writes one run directory.

    Args:
        root: the directory; made when something is first written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records = root / "records"

    def write(self, record: Record, series: Series | None = None, state: bytes | None = None) -> None:
        """Write a record, its series and state first, so that a record never lacks them.

        Args:
            record: the record.
            series: arrays by name.
            state: what was trained, as safetensors.
        """
        if state is not None:
            write_atomically(self.state_path(record.id), state)
        if series:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **series)  # type: ignore[arg-type]
            write_atomically(self.records / f"{record.id}.npz", buffer.getvalue())
        write_atomically(self.records / f"{record.id}.json", record.to_json().encode())

    def state_path(self, cell_id: str) -> Path:
        """Return where a cell's trained numbers are."""
        return self.records / f"{cell_id}.safetensors"

    def read(self, cell_id: str) -> Record | None:
        """Return a cell's record, or None when there is none (a damaged one is set aside first)."""
        path = self.records / f"{cell_id}.json"
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            self._set_aside(path)
            raise RecordError(f"{path}: cannot read ({error}); set aside in records/damaged") from error
        try:
            record = from_json(text)
            if record.id != cell_id:
                raise RecordError(f"found the record of cell {record.id!r}; delete it to run the cell again")
            return record
        except RecordError as error:
            if "upgrade" not in str(error):
                self._set_aside(path)
            raise RecordError(f"{path}: {error}") from error

    def read_all(self) -> tuple[list[Record], list[str]]:
        """Return the records of the planned cells in plan order, and a line for each damaged file."""
        records, damaged = [], []
        for cell_id in self.manifest()["cells"]:
            try:
                record = self.read(cell_id)
            except RecordError as error:
                damaged.append(str(error))
                continue
            if record is not None:
                records.append(record)
        return records, damaged

    def series(self, cell_id: str) -> dict[str, NDArray[Any]]:
        """Return a cell's series, empty when it has none.

        Raises:
            RecordError: the file is damaged.
        """
        path = self.records / f"{cell_id}.npz"
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except FileNotFoundError:
            return {}
        except Exception as error:
            raise RecordError(f"{path}: cannot read ({error}); delete it to run the cell again") from error

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write ``run.json``; it has at least ``suite``, ``title`` and ``cells``."""
        text = json.dumps(dict(manifest), indent=2, sort_keys=True) + "\n"
        write_atomically(self.root / "run.json", text.encode())

    def manifest(self) -> dict[str, Any]:
        """Return ``run.json``.

        Raises:
            InputError: the directory isn't a run directory.
        """
        path = self.root / "run.json"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(
                f"{self.root}: found no run.json; expected a directory made by `qpabench run`"
            ) from error
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot read ({error}); run the suite again to restore it") from error
        cells = manifest.get("cells") if isinstance(manifest, dict) else None
        if not isinstance(cells, Sequence) or not all(isinstance(c, str) and _ID.fullmatch(c) for c in cells):
            raise InputError(f"{path}: found no list of cell ids; run the suite again to restore it")
        return dict(manifest)

    def _set_aside(self, path: Path) -> None:
        aside = self.records / "damaged" / path.name
        try:
            aside.parent.mkdir(exist_ok=True)
            os.replace(path, aside)  # noqa: PTH105
        except OSError as error:
            raise RecordError(f"{path}: damaged, and cannot be set aside ({error.strerror})") from error
