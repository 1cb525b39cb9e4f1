"""Lines from text and parquet files; whatever can't be measured on is refused in one line."""

from __future__ import annotations

import re
from pathlib import Path

from qpabench.cache import file_hash
from qpabench.datasets.splits import Splits
from qpabench.errors import InputError, one_line

SPLITS = ("train", "validation", "test")


def read_lines(file: Path) -> tuple[str, ...]:
    """Return the lines of a UTF-8 file in order, blank ones kept, without line ends.

    Raises:
        InputError: no such file, or not UTF-8; the message names file, line and byte.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); expected a UTF-8 text file") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{file}: line {line} is not UTF-8 (byte 0x{data[error.start]:02x} at {error.start}); "
            "convert the file to UTF-8"
        ) from error
    if not text:
        return ()
    # not splitlines(): form feeds and Unicode separators belong to the text
    return tuple(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))


def read_parquet(file: Path, column: str) -> tuple[str, ...]:
    """Return one text column of a parquet file, one row = one line, without line ends.

    Args:
        file: the file.
        column: its name; a file with one text column only may call it otherwise.

    Raises:
        InputError: not a parquet file, or no such column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file}: not a readable parquet file ({one_line(error, 120)})") from error
    texts = [
        field.name
        for field in table.schema
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    ]
    if column not in texts:
        if len(texts) != 1:
            raise InputError(f"{file}: has no text column {column!r}; found {table.column_names}")
        column = texts[0]
    return clean_rows(table.column(column).to_pylist())


def clean_rows(rows: list[str | None]) -> tuple[str, ...]:
    """Return rows of a table as lines: line ends cut off; a null row is a blank line."""
    return tuple((row or "").removesuffix("\n").removesuffix("\r") for row in rows)


def read(file: Path, column: str = "text") -> tuple[str, ...]:
    """Return the lines of a text or parquet file."""
    return read_parquet(file, column) if file.suffix == ".parquet" else read_lines(file)


def checked(name: str, train: tuple[str, ...], validation: tuple[str, ...], test: tuple[str, ...]) -> Splits:
    """Return the splits, refusing a train or test split without any text.

    Raises:
        InputError: the message names the split and the rows found.
    """
    for split, lines in (("train", train), ("test", test)):
        if not any(line.strip() for line in lines):
            raise InputError(
                f"{name}: split {split} has no text ({len(lines)} rows, all blank); expected some"
            )
    return Splits(train=train, validation=validation, test=test)


def split_files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    """Find each split's files by name: ``train.txt``, ``wiki.valid.raw``, ``test/0000.parquet``.

    Args:
        folder: searched with its sub-folders.
        suffixes: kinds of file, best first; all files come from the first kind that has a train and a test.

    Returns:
        Files by split, in the order of their names; without train and test when they aren't there.
    """
    found: dict[str, list[Path]] = {}
    for suffix in suffixes:
        found = {}
        for file in sorted(folder.rglob(f"*{suffix}")) if folder.is_dir() else []:
            split = _split_of(file.relative_to(folder))
            if split and file.is_file():
                found.setdefault(split, []).append(file)
        if "train" in found and "test" in found:
            return found
    return found


def fingerprint(files: dict[str, list[Path]]) -> str:
    """Return the hashes of each split's files, ``absent`` for one that isn't there."""
    parts = []
    for split in SPLITS:
        for file in files.get(split, []):
            parts.append(f"{split}=sha256:{file_hash(file)}" if file.is_file() else f"{split}=absent")
    return "files:" + (",".join(parts) or "absent")


def _split_of(relative: Path) -> str | None:
    words = re.split(r"[^a-z]+", relative.as_posix().lower())
    for word in reversed(words):
        if word in ("valid", "validation", "dev"):
            return "validation"
        if word in ("train", "test"):
            return word
    return None
