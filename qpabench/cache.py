"""The folder for what can be computed again: converted weights, cleaned texts, hashes of big files."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_dir

from qpabench.errors import StorageError, cause

#: Files below this are hashed each time; the hashes of bigger ones are kept.
SMALL_BYTES = 1 << 20
#: size and SHA-256 of each file of a published folder
SUMS = "sums.json"


def cache_dir() -> Path:
    """Return the cache folder: ``QPABENCH_CACHE``, else the user's cache folder. It may not exist yet."""
    chosen = os.environ.get("QPABENCH_CACHE")
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("qpabench"))


def published(
    name: str,
    build: Callable[[Path], None],
    warn: Callable[[str], None] = warnings.warn,
    *,
    thorough: bool = True,
    resumes: bool = False,
) -> Path:
    """Return a cached folder, built once: whole or absent, also when builders race or are killed.

    One whose files are not what was built (a disk that failed, a power cut) is removed and built again.

    Args:
        name: path of the folder inside the cache; put a hash of everything that went into it in the name.
        build: fills the folder it is given, which is empty but for what ``resumes`` says.
        warn: called with a line that names a damaged file.
        thorough: compare the content of its files, not only their sizes.
        resumes: ``build`` goes on from what a builder that was killed left in its folder.

    Returns:
        The folder.

    Raises:
        StorageError: the cache can't be written; the message names ``QPABENCH_CACHE``.
    """
    from filelock import FileLock

    target = cache_dir() / name
    try:
        if target.is_dir() and _damage(target, thorough) is None:
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if target.is_dir():
                damage = _damage(target, thorough)
                if damage is None:
                    return target
                warn(f"{damage}; {target} is removed and made again")
                shutil.rmtree(target)
            draft = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
            drafts = sorted(
                target.parent.glob(f"{target.name}.*.part"), key=lambda path: path.stat().st_mtime
            )
            if drafts and resumes:
                drafts.pop().rename(draft)
            else:
                draft.mkdir()
            for left in drafts:  # of builders that were killed
                shutil.rmtree(left, ignore_errors=True)
            try:
                build(draft)
                (draft / SUMS).write_text(json.dumps(_sums(draft), indent=1) + "\n", encoding="ascii")
                draft.rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"cannot write {target}: {cause(error)}; free space there, or set QPABENCH_CACHE to "
            "another folder, then run again"
        ) from error
    return target


def make_room(root: str, allowed_bytes: int, stays: Path) -> None:
    """Remove folders of a part of the cache, those used longest ago first, until the rest is small enough.

    Args:
        root: name of that part.
        allowed_bytes: what all but ``stays`` may take.
        stays: a folder there that stays in any case, and is noted as used now.
    """
    others = [path for path in folders(root) if path != stays]
    sizes = {path: bytes_of(path) for path in others}
    used = {path: path.stat().st_mtime_ns for path in others}
    for path in sorted(others, key=lambda path: used[path]):
        if sum(sizes.values()) <= allowed_bytes:
            break
        remove(path)
        del sizes[path]
    os.utime(stays, ns=(time.time_ns(),) * 2)  # finer than the clock of the file system


def remove(folder: Path) -> None:
    """Remove a folder of the cache: others see all of it or nothing, and read on what they have open."""
    aside = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.part")
    with suppress(OSError):
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def folders(root: str) -> list[Path]:
    """Return the folders of a part of the cache; drafts aren't any."""
    parent = cache_dir() / root
    found = parent.iterdir() if parent.is_dir() else ()
    return [path for path in found if path.is_dir() and path.suffix != ".part"]


def bytes_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # removed by another process
            total += path.stat().st_size if path.is_file() else 0
    return total


def _sums(folder: Path) -> dict[str, list[object]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    return {path.relative_to(folder).as_posix(): [path.stat().st_size, _hash(path)] for path in files}


def _damage(folder: Path, thorough: bool) -> str | None:
    """Name the first file that isn't what was built; None when all are."""
    try:
        expected = json.loads((folder / SUMS).read_text(encoding="ascii"))
        for name, (size_bytes, digest) in expected.items():
            path = folder / name
            if path.stat().st_size != size_bytes or (thorough and _hash(path) != digest):
                return f"{path}: damaged"
    except FileNotFoundError as error:
        return f"{error.filename}: missing"
    except (ValueError, TypeError, AttributeError):
        return f"{folder / SUMS}: damaged"
    return None


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
    with suppress(OSError, UnicodeDecodeError):
        digest, _, check = note.read_text("ascii").partition(" ")
        if check == _check(key, digest):
            return digest
    digest = _hash(path)
    _keep(note, f"{digest} {_check(key, digest)}")
    return digest


def _check(key: str, digest: str) -> str:
    """Return what tells a note from a damaged one."""
    return hashlib.sha256(f"{key} {digest}".encode()).hexdigest()[:16]


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _keep(note: Path, text: str) -> None:
    draft = note.with_name(f"{note.name}.{os.getpid()}")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, "ascii")
        draft.replace(note)
    except OSError:  # a cache that can't be written costs time, nothing else
        with suppress(OSError):
            draft.unlink()
