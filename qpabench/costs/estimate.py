"""From measured pieces to the seconds and bytes of a plan's cells; arithmetic alone, nothing assumed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qpabench.costs import pieces
from qpabench.costs.kept import Calibration
from qpabench.costs.work import Rows, Work, rows_of, tokens_read, work_of
from qpabench.hooks.entries import LayerShape, Ledger, ModelOptions
from qpabench.suite.cell import Cell
from qpabench.suite.variance import Point
from qpabench.training.budget import budget_bytes, kept_parts, part_read
from qpabench.training.keys import features_key

FLOAT_BYTES = 4
COMPLEX_BYTES = 16
#: value, gradient and AdamW's two averages of each trainable number
COPIES_TRAINED = 4
#: value and gradient of each generated number
COPIES_GENERATED = 2
#: a circuit's time grows with N as between the two measured N nearest to its own
NEAR_SIZES = 2
NOT_MEASURED = "not measured here yet"


@dataclass(frozen=True)
class Cost:
    """What one cell is expected to take.

    Args:
        features_seconds: what its model and dataset take once; 0 where an earlier cell or the cache has them.
        train_seconds, eval_seconds, other_seconds: of the cell itself.
        memory_bytes: of its process.
        circuits: executed in all.
        at_most: rows were taken as full, because only the features know how much of them is text.
        unknown: why there is no estimate; empty when there is one.
    """

    features_seconds: float = 0.0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    other_seconds: float = 0.0
    memory_bytes: int = 0
    circuits: int = 0
    at_most: bool = False
    unknown: str = ""

    @property
    def seconds(self) -> float:
        """All of the cell, its share of the features included."""
        return self.features_seconds + self.train_seconds + self.eval_seconds + self.other_seconds

    def to_json(self) -> dict[str, Any]:
        """Return the value of ``estimate`` in ``plan --json``."""
        if self.unknown:
            return {"seconds": None, "memory_bytes": None, "reason": self.unknown}
        return {
            "seconds": round(self.seconds, 3),
            "features_seconds": round(self.features_seconds, 3),
            "train_seconds": round(self.train_seconds, 3),
            "eval_seconds": round(self.eval_seconds, 3),
            "memory_bytes": self.memory_bytes,
            "circuits": self.circuits,
            "at_most": self.at_most,
            "reason": "",
        }


class _UnknownError(Exception):
    """Something wasn't measured; the message says what."""


def costs(cells: Iterable[Cell | Point], calibration: Calibration) -> list[Cost]:
    """Estimate each cell; the first that needs some features is charged with them.

    Args:
        cells: in the order in which they run.
        calibration: of this machine.
    """
    known: dict[tuple[str, str, int], Rows | str] = {}
    charged: set[str] = set()
    budget = budget_bytes()
    found = []
    for cell in cells:
        if isinstance(cell, Point):
            found.append(Cost(unknown="gradients at random angles aren't part of the estimate"))
            continue
        why = pieces.not_measurable(cell)
        if why:
            found.append(Cost(unknown=why))
            continue
        key = features_key(cell)
        asked = (key, cell.train.loss, cell.evaluate.stride)
        if asked not in known:
            known[asked] = rows_of(cell)
        rows = known[asked]
        if isinstance(rows, str):
            found.append(Cost(unknown=rows))
            continue
        try:
            found.append(
                _cost(cell, rows, calibration, budget, with_features=key not in charged and not rows.there)
            )
            charged.add(key)
        except _UnknownError as error:
            found.append(Cost(unknown=str(error)))
    return found


def _cost(cell: Cell, rows: Rows, calibration: Calibration, budget: int, *, with_features: bool) -> Cost:
    layer, ledger, work = pieces.layer_of(cell), cell.ledger, work_of(cell, rows)
    assert ledger is not None
    process = _measured(calibration, pieces.PROCESS, "this machine")
    head = _measured(calibration, pieces.head(cell), f"target {cell.target.name}")
    generator = _measured(calibration, pieces.generator(cell), f"generator {cell.generator.name}")
    draw, step = float(generator["forward"]), float(generator["step"])
    drawn_once = 0.0
    if (key := pieces.circuit(cell)) is not None and cell.backend is not None:
        points = _measured(calibration, key, f"backend {cell.backend.name}")
        forward = _at(points["forward"], ledger, cell.backend.name)
        draw += forward
        drawn_once = _at(points["step"], ledger, cell.backend.name) if cell.n_theta else 0.0
        step += drawn_once if ledger.trains_theta else forward
    features = _features_seconds(cell, rows, layer, head, calibration) if with_features else 0.0
    measuring = _measure_seconds(head, layer, work)
    if "kept" in head:
        quick = {**head, **head["kept"]}
        trains, share = _kept(cell, rows, layer, work, budget)
        measuring += share * (_measure_seconds(quick, layer, work) - measuring)
        head = quick if trains else head
    return Cost(
        features_seconds=features,
        train_seconds=work.steps * (_head_seconds(head, "train", layer, work.tokens_per_step) + step),
        eval_seconds=measuring + work.draws * draw,
        other_seconds=float(process["seconds"]) + drawn_once,
        memory_bytes=int(process["bytes"]) + _bytes(cell, layer, ledger, work),
        circuits=work.steps * cell.circuits_per_step + (work.draws if cell.circuits_per_step else 0),
        at_most=not rows.exact,
    )


def _features_seconds(
    cell: Cell, rows: Rows, layer: LayerShape, head: Mapping[str, Any], calibration: Calibration
) -> float:
    assert isinstance(cell.model.options, ModelOptions)
    n_parameters = cell.model.options.n_parameters()
    if n_parameters is None:
        raise _UnknownError(f"how many parameters {cell.model.name} has isn't known before it is loaded")
    rate = _measured(calibration, pieces.matmul(cell), "the matrix product")["flop_per_second"]
    read, scored = tokens_read(cell, rows)
    backbone = max(0, n_parameters - layer.d_in * layer.d_out)
    return 2 * backbone * read / float(rate) + _head_seconds(head, "eval", layer, scored)


def _kept(cell: Cell, rows: Rows, layer: LayerShape, work: Work, budget: int) -> tuple[bool, float]:
    """Return whether training reads kept logits, and the share of the measured positions that does."""
    each = {name: cell.evaluate.stride if name == "stream" else layer.n_positions - 1 for name in rows.rows}
    positions = {name: count * each[name] for name, count in rows.rows.items()}
    parts = kept_parts(positions, rows.text_tokens, FLOAT_BYTES * layer.d_out, budget)
    read = [name for name in positions if part_read(name, cell.train.loss, parts)]
    measured = sum(positions[name] for name in read if name != "train")
    return "train" in read, measured / work.tokens_measured


def _measure_seconds(head: Mapping[str, Any], layer: LayerShape, work: Work) -> float:
    """Return the seconds of scoring after training: in parts as large as a draw leaves them."""
    parts = max(1, work.draws)
    return parts * _head_seconds(head, "eval", layer, work.tokens_measured / parts)


def _head_seconds(head: Mapping[str, Any], what: str, layer: LayerShape, tokens: float) -> float:
    """Return the seconds of one pass: linear in the tokens, and in the outputs."""
    (few, many), (short, long) = head["tokens"], head[what]
    slope = max(0.0, (long - short) / (many - few))
    start = max(0.0, short - slope * few)
    if slope == 0:  # noise of a busy machine
        slope, start = long / many, 0.0
    return float((start + slope * tokens) * layer.d_out / head["outputs"])


def _at(points: Sequence[Sequence[Any]], ledger: Ledger, name: str) -> float:
    """Return the seconds of a circuit: as measured, or along a power of L and an exponential of N.

    Args:
        points: (N, L, seconds).
        ledger: has N and L.
        name: of the backend.
    """
    assert ledger.n_qubits is not None
    n_qubits, n_layers = ledger.n_qubits, ledger.n_layers or 1
    for n, layers, seconds in points:
        if (n, layers) == (n_qubits, n_layers):
            return float(seconds)
    import numpy as np

    near = sorted({p[0] for p in points}, key=lambda n: abs(n - n_qubits))[:NEAR_SIZES]
    points = [p for p in points if p[0] in near]
    columns = [np.ones(len(points))]
    wanted = [1.0]
    for values, own in (
        (np.array([p[0] for p in points], dtype=float), float(n_qubits)),
        (np.log([p[1] for p in points]), math.log(n_layers)),
    ):
        if np.ptp(values) > 0:
            columns.append(values)
            wanted.append(own)
        elif len(points) == 0 or values[0] != own:
            raise _UnknownError(
                f"backend {name} isn't measured at {n_qubits} qubits and {n_layers} repetitions"
            )
    design = np.stack(columns, axis=1)
    if np.linalg.matrix_rank(design) < len(columns):
        raise _UnknownError(f"backend {name} is measured at too few sizes")
    fitted, *_ = np.linalg.lstsq(design, np.log([p[2] for p in points]), rcond=None)
    return float(np.exp(np.dot(fitted, wanted)))


def _bytes(cell: Cell, layer: LayerShape, ledger: Ledger, work: Work) -> int:
    """Return the bytes a cell holds: layer, features, kept exponentials, adapter, optimizer, state."""
    numbers = layer.d_in * layer.d_out
    numbers += layer.d_in * int(
        work.tokens_measured + work.steps / max(1, cell.train.epochs) * work.tokens_per_step
    )
    numbers += work.tokens_at_most * layer.d_out
    numbers += COPIES_GENERATED * ledger.n_generated + COPIES_TRAINED * (cell.n_trainable or 0)
    state = COPIES_GENERATED * COMPLEX_BYTES * 2**ledger.n_qubits if ledger.n_qubits else 0
    return FLOAT_BYTES * numbers + state


def _measured(calibration: Calibration, key: str, what: str) -> Mapping[str, Any]:
    found = calibration.pieces.get(key)
    if found is None:
        raise _UnknownError(f"{what}: {NOT_MEASURED}")
    if "failed" in found:
        raise _UnknownError(f"{what}: {found['failed']}")
    return found
