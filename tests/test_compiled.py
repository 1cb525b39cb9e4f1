"""Compiled loops: the process that compiles them rounds as every later one does."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qpabench

pytest.importorskip("numba")

HASHES = """
import hashlib, torch
from qpabench.circuits import ansatze
from qpabench.circuits.native import exact_probabilities
from qpabench.targets.target import Factors
from qpabench.training.exponentials import LowRank, whole_rows
from qpabench.training.head import fast_loss
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
draw = lambda *shape: torch.randn(*shape, generator=generator)

def told(*tensors):
    print(*(hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()[:8] for tensor in tensors))

u, B, z, weights = draw(21, 4), draw(9001, 4).requires_grad_(), draw(21, 9001), torch.full((21,), 1 / 21)
told(whole_rows([(slice(0, 21), z)], LowRank.of(u, B, 21), weights, wants_gradient=True))
loss = fast_loss(Factors(draw(21, 16), (u, B)), draw(9001, 16), torch.arange(21), weights)
told(loss, *torch.autograd.grad(loss, B))
for name in ("ry", "rxrz"):
    for n_qubits in (3, 7, 10, 14):
        circuit = getattr(ansatze, name)(n_qubits, 3)
        angles = draw(1, circuit.n_angles).double().requires_grad_()
        value = exact_probabilities(circuit, angles)
        told(value, *torch.autograd.grad((value * draw(circuit.n_states)).sum(), angles))
"""


def test_the_process_that_compiles_them_gives_the_same_bits_as_later_ones(tmp_path: Path) -> None:
    def hashes() -> str:
        env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "JAXTYPING_DISABLE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", HASHES], env=env, capture_output=True, text=True, check=True
        )
        return done.stdout

    first = hashes()
    assert list(tmp_path.rglob("*.nbi"))
    assert len(first.splitlines()) == 10
    assert hashes() == first


@pytest.mark.parametrize(
    ("name", "inlined"),
    [
        ("circuits/lanes", "vectors"),
        ("circuits/tiles", "circuits/lanes"),
        ("circuits/chain_kernels", "circuits/tiles"),
        ("circuits/halves_kernels", "circuits/tiles"),
        ("training/lanes", "vectors"),
        ("training/kernels", "training/lanes"),
    ],
)
def test_a_changed_file_changes_those_that_inline_it(name: str, inlined: str) -> None:
    """Numba keeps a compiled loop until its own file changes."""
    folder = Path(qpabench.__file__).parent
    inner = folder / f"{inlined}.py"
    digest = hashlib.sha256(inner.read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:16]
    line = f"# numba: with {inner.name} {digest}"
    assert re.findall("^# numba: .*$", (folder / f"{name}.py").read_text("utf-8"), re.M) == [line]


WHERE = """
import torch
from qpabench.circuits import ansatze, fast
from qpabench.circuits.native import exact_probabilities
circuit = ansatze.ry(2, 1)
print(fast.chosen(circuit, torch.device("cpu")), float(exact_probabilities(circuit, torch.zeros(1, 2))[0, 0]))
"""


@pytest.mark.parametrize("writable", [True, False])
def test_where_numba_has_no_folder_they_are_kept_in_the_cache_or_not_used(
    tmp_path: Path, writable: bool
) -> None:
    cache = tmp_path / "cache"
    if not writable:
        cache.write_text("a file, no folder", encoding="ascii")
    env = os.environ | {
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator",
        "QPABENCH_CACHE": str(cache),
    }
    env.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WHERE], env=env, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == (f"{writable} 1.0\n", "")
    assert bool(list(tmp_path.rglob("loops/**/*.nbi"))) == writable
