"""Measures pieces of cells: ``python -m qpabench.costs.measure RESULT``, the cells on standard input.

Each piece is a real one (the head's loss, a generator with its optimizer, a circuit on its backend) on
stand-in numbers: neither weights nor data are needed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
import torch._dynamo  # optimizers import it; a worker has it already
from torch import Tensor

from qpabench.circuits.gradients import CircuitFunction
from qpabench.costs import pieces
from qpabench.errors import QpabenchError, one_line
from qpabench.generators.generator import GeneratorContext
from qpabench.hooks.entries import AnsatzEntry, BackendEntry, BackendOptions, LayerShape, TargetOptions
from qpabench.hooks.manager import load_registry
from qpabench.suite.cell import Cell, cell_from_json
from qpabench.targets.target import Factors, Target
from qpabench.training.head import fast_loss, token_nll
from qpabench.training.kept_loss import KeptFactors, KeptLogits

#: tokens of the two passes from which a head's time a token and its start follow
TOKENS = (16, 128)
#: outputs are cut to what takes this many multiplications with the larger number of tokens
MULTIPLICATIONS = 1 << 29
MATMUL = (512, 2048)  # tokens, outputs
REPEATS = 3
ENOUGH_SECONDS = 0.05
#: a backend's sizes are measured while this lasts, smallest first; larger ones are extrapolated
CIRCUIT_SECONDS = 3.0
#: a circuit whose step would take longer isn't tried
LONGEST_STEP_SECONDS = 20.0


def measure(cells: Iterable[Cell]) -> dict[str, dict[str, Any]]:
    """Measure each distinct piece of some cells.

    Args:
        cells: those that can't be measured are passed over.

    Returns:
        Numbers by piece; ``{"failed": reason}`` where a component refused.
    """
    found: dict[str, dict[str, Any]] = {}
    circuits: dict[str, list[Cell]] = {}
    for cell in cells:
        if pieces.not_measurable(cell):
            continue
        for key, piece in (
            (pieces.matmul(cell), _matmul),
            (pieces.head(cell), _head),
            (pieces.generator(cell), _generator),
        ):
            if key not in found:
                found[key] = _or_reason(piece, cell)
        if (key := pieces.circuit(cell) or "") and cell.ledger is not None:
            circuits.setdefault(key, []).append(cell)
    for key, own in circuits.items():
        found[key] = _or_reason(_circuits, own)
    return found


def _or_reason(piece: Callable[[Any], dict[str, Any]], given: Any) -> dict[str, Any]:
    try:
        return piece(given)
    except Exception as error:  # a plugin may raise anything; the rest is measured all the same
        reason = str(error) if isinstance(error, QpabenchError) else f"{type(error).__name__}: {error}"
        return {"failed": one_line(reason)}


def _matmul(cell: Cell) -> dict[str, Any]:
    tokens, outputs = MATMUL
    d_in = pieces.layer_of(cell).d_in
    x, weight = torch.full((tokens, d_in), 0.01), torch.full((outputs, d_in), 0.01)
    return {"flop_per_second": 2 * tokens * outputs * d_in / _seconds(lambda: x @ weight.T)}


def _head(cell: Cell) -> dict[str, Any]:
    whole = pieces.layer_of(cell)
    outputs = max(1, min(whole.d_out, MULTIPLICATIONS // (TOKENS[-1] * whole.d_in)))
    layer = LayerShape(whole.d_in, outputs, whole.n_positions)
    options = cell.target.options
    assert isinstance(options, TargetOptions)
    target = cell.target.entry.component()(options, layer)
    weight = torch.randn(outputs, whole.d_in) / 10
    target.prepare(weight)
    leaves = {spec.name: (torch.randn(spec.shape) / 100).requires_grad_() for spec in options.specs(layer)}
    random = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logits.f32"
        path.write_bytes(torch.randn(TOKENS[-1], outputs).numpy().tobytes())
        kept = KeptLogits(path, outputs) if getattr(target, "adds_to_logits", False) else None
        return {
            "outputs": outputs,
            "tokens": list(TOKENS),
            **_passes(target, leaves, weight, random, None),
            **({"kept": _passes(target, leaves, weight, random, kept)} if kept else {}),
        }


def _passes(
    target: Target,
    leaves: Mapping[str, Tensor],
    weight: Tensor,
    random: torch.Generator,
    kept: KeptLogits | None,
) -> dict[str, list[float]]:
    """Return the seconds of training and of scoring each number of tokens, with or without kept logits."""
    train, measured = [], []
    for tokens in TOKENS:
        inputs = torch.randn(tokens, weight.shape[1])
        positions = torch.arange(tokens) % target.layer.n_positions
        labels = torch.arange(tokens) % len(weight)
        weights = torch.full((tokens,), 1 / tokens)

        def factors(
            random: torch.Generator | None, h: Tensor = inputs, places: Tensor = positions
        ) -> Factors:
            found = target.factors(h, places, weight, leaves, random)
            if kept is None or found.low_rank is None:
                return found
            return KeptFactors(h, found.low_rank, source=kept, positions=slice(0, len(h)))

        def step(of: Any = factors, y: Tensor = labels, w: Tensor = weights) -> None:
            loss = fast_loss(of(random), weight, y, w)
            if loss.requires_grad:
                loss.backward()

        def score(of: Any = factors, y: Tensor = labels) -> None:
            with torch.no_grad():
                token_nll(of(None), weight, y)

        train.append(_seconds(step))
        measured.append(_seconds(score))
    return {"train": train, "eval": measured}


def _generator(cell: Cell) -> dict[str, Any]:
    assert isinstance(cell.target.options, TargetOptions)
    specs = cell.target.options.specs(pieces.layer_of(cell))
    context = GeneratorContext(specs, cell.seed)
    if cell.ansatz is not None and cell.ledger is not None:
        n_qubits, n_layers = cell.ledger.n_qubits, cell.ledger.n_layers
        assert n_qubits is not None
        assert n_layers is not None
        assert isinstance(cell.ansatz.entry, AnsatzEntry)
        uniform = torch.full((2**n_qubits,), 2.0**-n_qubits, dtype=torch.float64)
        shape = cell.ansatz.entry.angles_shape(n_qubits, n_layers)
        context = GeneratorContext(
            specs, cell.seed, n_qubits, shape, lambda angles: uniform + 0 * angles.sum()
        )
    generator = cell.generator.entry.component()(cell.generator.options, context)
    optimizer = torch.optim.AdamW([p for p in generator.parameters() if p.requires_grad], lr=1e-6)

    def forward() -> None:
        with torch.no_grad():
            generator()

    def step() -> None:
        tensors = [tensor for tensor in generator().values() if tensor.requires_grad]
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(tensors, [torch.full_like(tensor, 1e-6) for tensor in tensors])
        optimizer.step()

    return {"forward": _seconds(forward), "step": _seconds(step)}


def _circuits(cells: list[Cell]) -> dict[str, Any]:
    """Measure one backend with one ansatz at its cells' sizes, smallest first, while there is time."""
    backend, ansatz = cells[0].backend, cells[0].ansatz
    assert backend is not None
    assert ansatz is not None
    if lacking := backend.options.missing():
        return {"failed": lacking}
    sizes = {(c.ledger.n_qubits or 1, c.ledger.n_layers or 1): c for c in cells if c.ledger is not None}
    found: dict[str, Any] = {"forward": [], "step": []}
    started = time.perf_counter()
    for size in sorted(sizes):
        forward, step = _circuit(sizes[size], *size)
        found["forward"].append([*size, forward])
        if step is not None:
            found["step"].append([*size, step])
        if time.perf_counter() - started > CIRCUIT_SECONDS and len({n for n, *_ in found["step"]}) > 1:
            break
    if not found["step"]:
        return {"failed": f"one step takes more than {LONGEST_STEP_SECONDS:g} s, too long to be measured"}
    return found


def _circuit(cell: Cell, n_qubits: int, n_layers: int) -> tuple[float, float | None]:
    """Return the seconds of a forward pass, and of one with its gradient."""
    assert cell.backend is not None
    assert cell.ansatz is not None
    entry, options = cell.backend.entry, cell.backend.options
    assert isinstance(entry, BackendEntry)
    assert isinstance(options, BackendOptions)
    circuit = cell.ansatz.entry.component()(n_qubits, n_layers)
    method = entry.gradient_method(options)
    function = CircuitFunction(entry.component()(options), circuit, options, method, cell.seed)
    angles = torch.linspace(-3, 3, cell.n_theta, dtype=torch.float64).requires_grad_()
    direction = torch.linspace(-1, 1, 2**n_qubits, dtype=torch.float64)

    def forward() -> None:
        with torch.no_grad():
            function(angles)

    def step() -> None:
        torch.autograd.grad(function(angles), angles, direction)

    seconds = _seconds(forward)
    return seconds, _seconds(step) if seconds * cell.circuits_per_step <= LONGEST_STEP_SECONDS else None


def _seconds(call: Callable[[], object]) -> float:
    """Return the median seconds of a call that has been made once before."""
    call()
    found: list[float] = []
    while len(found) < REPEATS and sum(found) < ENOUGH_SECONDS:
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return median(found)


def main() -> None:
    """Read the request, write the result."""
    request: Mapping[str, Any] = json.load(sys.stdin)
    torch.set_num_threads(int(request["threads"]))
    started = time.perf_counter()
    registry = load_registry()
    cells = [cell_from_json(content, registry) for content in request["cells"]]
    process = {
        "seconds": time.perf_counter() - started,
        "bytes": psutil.Process().memory_info().rss,
    }
    found = {pieces.PROCESS: process, **measure(cells)}
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
