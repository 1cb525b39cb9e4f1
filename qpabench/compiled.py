"""Loops compiled by numba, where that is installed (``qpabench[compiled]``) and allowed."""

from __future__ import annotations

import importlib
import os
from functools import cache
from importlib.util import find_spec
from types import ModuleType

VARIABLE = "QPABENCH_COMPILED"


@cache
def loops(name: str) -> ModuleType | None:
    """Import a module of compiled loops; None without numba. It takes a second: not before it is needed.

    Args:
        name: of the module.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def in_use() -> bool:
    """Whether compiled loops run wherever there are any; imports nothing."""
    return is_allowed() and find_spec("numba") is not None


def is_allowed() -> bool:
    """Whether compiled loops may be used: not with ``QPABENCH_COMPILED=0``."""
    return os.environ.get(VARIABLE, "1") != "0"
