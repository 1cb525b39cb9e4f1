"""Measures Quantum Parameter Adaptation (QPA) and its classical rivals on the same footing."""

from qpabench.errors import (
    InputError,
    NumericalError,
    PluginError,
    QpabenchError,
    UnavailableError,
    UnsupportedError,
)
from qpabench.hooks.entries import (
    AnsatzEntry,
    BackendEntry,
    BackendOptions,
    DatasetEntry,
    DatasetOptions,
    ExecutorEntry,
    GeneratorEntry,
    GeneratorOptions,
    LayerShape,
    Ledger,
    ModelEntry,
    ModelOptions,
    Options,
    ReporterEntry,
    TargetEntry,
    TargetOptions,
    TensorSpec,
)
from qpabench.hooks.hookspecs import hookimpl

__all__ = [
    "AnsatzEntry",
    "BackendEntry",
    "BackendOptions",
    "DatasetEntry",
    "DatasetOptions",
    "ExecutorEntry",
    "GeneratorEntry",
    "GeneratorOptions",
    "InputError",
    "LayerShape",
    "Ledger",
    "ModelEntry",
    "ModelOptions",
    "NumericalError",
    "Options",
    "PluginError",
    "QpabenchError",
    "ReporterEntry",
    "TargetEntry",
    "TargetOptions",
    "TensorSpec",
    "UnavailableError",
    "UnsupportedError",
    "hookimpl",
]
__version__ = "0.1.0"
