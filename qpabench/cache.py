"""The folder for what can be computed again: converted weights, cleaned texts, hashes of big files."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_dir

from qpabench.errors import UnavailableError

#: Files below this are hashed each time; the hashes of bigger ones are kept.
SMALL_BYTES = 1 << 20


def cache_dir() -> Path:
    """Return the cache folder: ``QPABENCH_CACHE``, else the user's cache folder. It may not exist yet."""
    chosen = os.environ.get("QPABENCH_CACHE")
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("qpabench"))


def published(name: str, build: Callable[[Path], None]) -> Path:
    """Return a cached folder, built once: whole or absent, also when builders race or are killed.

    Args:
        name: path of the folder inside the cache; put a hash of everything that went into it in the name.
        build: fills the empty folder it is given.

    Returns:
        The folder.

    Raises:
        UnavailableError: the cache can't be written; the message names ``QPABENCH_CACHE``.
    """
    from filelock import FileLock

    target = cache_dir() / name
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if target.is_dir():
                return target
            for left in target.parent.glob(f"{target.name}.*.part"):  # of a builder that was killed
                shutil.rmtree(left, ignore_errors=True)
            draft = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
            draft.mkdir()
            try:
                build(draft)
                draft.rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise UnavailableError(
            f"cannot write {target}: {error.strerror or error}; free space there, or set QPABENCH_CACHE to "
            "another folder"
        ) from error
    return target


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hex; that of a big file is read again only when the file changed.

    Args:
        path: an existing file. "Changed" means another path, size or modification time.
    """
    stat = path.stat()
    if stat.st_size < SMALL_BYTES:
        return _hash(path)
    key = hashlib.sha256(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()).hexdigest()
    note = cache_dir() / "hashes" / key[:40]
    try:
        known = note.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        known = ""
    if len(known) == 64:
        return known
    digest = _hash(path)
    _keep(note, digest)
    return digest


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _keep(note: Path, digest: str) -> None:
    draft = note.with_name(f"{note.name}.{os.getpid()}")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(digest, "ascii")
        draft.replace(note)
    except OSError:  # a cache that can't be written costs time, nothing else
        with suppress(OSError):
            draft.unlink()
