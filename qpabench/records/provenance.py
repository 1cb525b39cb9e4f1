"""Where a record came from: versions, commit, hardware."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("qpabench", "torch", "numpy", "numba", "transformers", "pluggy", "pydantic")


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def source_commit() -> tuple[str | None, bool | None]:
    """Return the commit this package was taken from and whether files differ from it; None outside git."""
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit.strip(), bool(changed.strip())


def source_line() -> str:
    """Say which commit this package was taken from, and whether files differ from it."""
    commit, changed = source_commit()
    return "not from git" if commit is None else f"commit {commit[:7]}{', changed' if changed else ''}"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout


@lru_cache(maxsize=1)
def hardware() -> dict[str, Any]:
    """Return processor, cores this process may use, memory in bytes."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {"cpu": name, "cores": usable_cores(), "memory_bytes": psutil.virtual_memory().total}


def usable_cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def provenance(brought_by: dict[str, str], *, threads: int, seed: int, protocol: str) -> dict[str, Any]:
    """Return what a record keeps of its origin.

    Args:
        brought_by: component kind -> distribution and version.
        threads: of torch in the worker.
        seed: of the cell.
        protocol: of the cell.
    """
    commit, dirty = source_commit()
    return {
        "versions": package_versions(PACKAGES),
        "plugins": brought_by,
        "commit": commit,
        "dirty": dirty,
        "hardware": hardware(),
        "threads": threads,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "seed": seed,
        "protocol": protocol,
    }
