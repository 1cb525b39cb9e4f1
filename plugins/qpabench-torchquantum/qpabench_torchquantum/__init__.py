"""The ``torchquantum`` backend for qpabench; importing this module imports neither torch nor TorchQuantum."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable

import qpabench

INSTALL = "python -m pip install --no-deps torchquantum==0.1.8"


class TorchQuantumOptions(qpabench.BackendOptions):
    """What may be asked of the TorchQuantum simulator."""

    def missing(self) -> str | None:
        """Say whether TorchQuantum 0.1.8, or a package its simulator uses, is missing."""
        try:
            version = importlib.metadata.version("torchquantum")
        except importlib.metadata.PackageNotFoundError:
            return f"torchquantum 0.1.8 is not installed; {INSTALL}"
        if version != "0.1.8":
            return f"torchquantum {version} is installed, expected 0.1.8; {INSTALL}"
        for package in ("opt_einsum", "scipy"):
            if importlib.util.find_spec(package) is None:
                return f"{package} is not installed, TorchQuantum uses it; python -m pip install {package}"
        return None


@qpabench.hookimpl
def qpabench_backends() -> Iterable[qpabench.BackendEntry]:
    """Bring TorchQuantum's simulator."""
    yield qpabench.BackendEntry(
        name="torchquantum",
        summary="TorchQuantum 0.1.8 state vector (single precision), autograd; or its shots",
        load="qpabench_torchquantum.backend:TorchQuantumBackend",
        options=TorchQuantumOptions,
        exact=True,
        shots=True,
        gradient=True,
        max_qubits=18,
    )
