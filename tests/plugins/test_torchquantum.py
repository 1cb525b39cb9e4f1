"""TorchQuantum's simulator passes the kit, beside Qiskit 2 and transformers."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("qpabench_torchquantum")
from qpabench.testing.pytest_plugin import conformance_test
from qpabench_torchquantum import qpabench_backends

[ENTRY] = qpabench_backends()
needs_torchquantum = pytest.mark.skipif(
    ENTRY.options().missing() is not None, reason=str(ENTRY.options().missing())
)
test_exact = conformance_test(ENTRY)
test_shots = conformance_test(ENTRY, shots=8192)


def run(code: str) -> str:
    """Run in a fresh interpreter, where nothing is imported yet."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_torchquantum
def test_no_stand_in_remains_and_transformers_and_qiskit_import_afterwards() -> None:
    pytest.importorskip("qiskit")
    out = run(
        "import sys, qiskit\n"
        "before = qiskit\n"
        "from qpabench_torchquantum.tolerant import STAND_INS, import_torchquantum\n"
        "import_torchquantum()\n"
        "assert sys.modules['qiskit'] is before\n"
        "assert not [n for n, m in sys.modules.items() if type(m).__name__ == '_StandIn']\n"
        "assert not [f for f in sys.meta_path if 'StandIn' in type(f).__name__]\n"
        "import qiskit.circuit, matplotlib.pyplot\n"
        "from transformers import AutoModelForCausalLM\n"
        "print(qiskit.__version__, 'torchvision' in sys.modules)\n"
    )
    assert out.split() == [__import__("qiskit").__version__, "False"]


@needs_torchquantum
def test_it_imports_where_qiskit_is_absent() -> None:
    run(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('qiskit', 'qiskit_ibm_runtime', 'torchvision', 'sklearn'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from qpabench_torchquantum.tolerant import import_torchquantum\n"
        "import_torchquantum().QuantumDevice(n_wires=1)\n"
    )


@needs_torchquantum
def test_a_failed_import_leaves_nothing_behind() -> None:
    run(
        "import sys\n"
        "sys.modules['opt_einsum'] = None\n"
        "from qpabench_torchquantum.tolerant import import_torchquantum\n"
        "try:\n"
        "    import_torchquantum()\n"
        "except ImportError as error:\n"
        "    assert 'opt_einsum' in str(error)\n"
        "else:\n"
        "    raise SystemExit('expected an ImportError')\n"
        "left = [n for n in sys.modules if n.split('.')[0] in ('torchquantum', 'torchpack', 'torchvision')]\n"
        "assert not left, left\n"
    )


def test_listing_it_imports_neither_torch_nor_torchquantum() -> None:
    out = run(
        "import sys, qpabench_torchquantum\n"
        "[entry] = qpabench_torchquantum.qpabench_backends()\n"
        "entry.options().missing()\n"
        "print([name for name in ('torch', 'torchquantum', 'numpy') if name in sys.modules])\n"
    )
    assert out.strip() == "[]"


def test_an_absent_torchquantum_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert "python -m pip install --no-deps torchquantum==0.1.8" in str(ENTRY.options().missing())


def test_another_version_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.2.0")
    assert "torchquantum 0.2.0 is installed, expected 0.1.8" in str(ENTRY.options().missing())
