"""Loops compiled by numba, where that is installed (``qpabench[compiled]``) and allowed."""

from __future__ import annotations

import importlib
import os
from functools import cache
from importlib.util import find_spec
from types import ModuleType

from qpabench.cache import cache_dir

VARIABLE = "QPABENCH_COMPILED"


@cache
def loops(name: str) -> ModuleType | None:
    """Import a module of compiled loops; None without numba. It takes a second: not before it is needed.

    Numba keeps what it compiled beside the module or in the home folder; where neither can be written, in
    qpabench's cache.

    Args:
        name: of the module.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
    except RuntimeError:  # it found no folder
        return _kept_in_cache(name)


def _kept_in_cache(name: str) -> ModuleType | None:
    from numba import config

    config.CACHE_DIR = str(cache_dir() / "loops")  # type: ignore[attr-defined]
    try:
        return importlib.import_module(name)
    except RuntimeError:
        return None


def needed(name: str) -> ModuleType:
    """Return a module of compiled loops that is there; see ``loops``."""
    found = loops(name)
    assert found is not None
    return found


def in_use() -> bool:
    """Whether compiled loops run wherever there are any; imports nothing."""
    return is_allowed() and find_spec("numba") is not None


def is_allowed() -> bool:
    """Whether compiled loops may be used: not with ``QPABENCH_COMPILED=0``."""
    return os.environ.get(VARIABLE, "1") != "0"
