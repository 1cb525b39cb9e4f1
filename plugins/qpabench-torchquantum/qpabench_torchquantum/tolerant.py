"""Imports TorchQuantum 0.1.8 without the optional packages that its state-vector simulator never uses.

TorchQuantum imports Qiskit before 1.0, torchpack, torchvision and more at the top of its package, for its
hardware plugins and image datasets. During that one import, stand-ins answer for these modules; afterwards
every stand-in is out of ``sys.modules`` and whatever was there before (Qiskit 2, for instance) is back. So
nothing that looks for ``torchvision`` later (transformers does) finds a stand-in instead.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

#: Packages (with all their submodules) that TorchQuantum imports and its simulator never calls.
STAND_INS = (
    "imp",
    "matplotlib",
    "qiskit",
    "qiskit_ibm_runtime",
    "qiskit_nature",
    "sklearn",
    "torchdiffeq",
    "torchpack",
    "torchquantum.dataset",
    "torchquantum.plugin",
    "torchvision",
)
_LOCK = threading.Lock()


class _StandIn(ModuleType):
    """A module that has any attribute: an empty class of that name."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "logger":
            return logging.getLogger("torchquantum")
        return type(name, (), {})


class _StandInFinder(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if _stands_in(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = _StandIn(spec.name)
        module.__all__ = []  # type: ignore[attr-defined]
        module.__file__ = f"<stand-in for {spec.name}>"
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


def _stands_in(name: str) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in STAND_INS)


@contextmanager
def stand_ins() -> Iterator[None]:
    """Let stand-ins answer for ``STAND_INS`` inside the block; on leaving it none of them remains."""
    before = {name: module for name, module in sys.modules.items() if _stands_in(name)}
    for name in before:
        del sys.modules[name]
    finder = _StandInFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if _stands_in(name)]:
            del sys.modules[name]
        sys.modules.update(before)


def import_torchquantum() -> ModuleType:
    """Import TorchQuantum once, with stand-ins for what its simulator never uses.

    Returns:
        The module ``torchquantum``, without ``dataset`` and ``plugin``.

    Raises:
        ImportError: TorchQuantum or a package that its simulator does use is missing.
    """
    with _LOCK:
        loaded = sys.modules.get("torchquantum")
        if loaded is not None:
            return loaded
        with stand_ins(), warnings.catch_warnings():
            # Docstrings of 0.1.8 hold backslashes that Python 3.12 warns of when it compiles them.
            warnings.filterwarnings("ignore", "invalid escape sequence", DeprecationWarning)
            warnings.filterwarnings("ignore", "invalid escape sequence", SyntaxWarning)
            try:
                module = importlib.import_module("torchquantum")
            except BaseException:
                for name in [name for name in sys.modules if name.split(".")[0] == "torchquantum"]:
                    del sys.modules[name]
                raise
        for name in ("dataset", "plugin"):
            vars(module).pop(name, None)
        return module
