"""The checks of the conformance kit, one function each; a function that returns has passed."""

from __future__ import annotations

import torch
from torch import Tensor

from qpabench.circuits.circuit import Circuit, Gate
from qpabench.circuits.gradients import CircuitFunction
from qpabench.errors import UnsupportedError
from qpabench.hooks.entries import AnsatzEntry, Ledger
from qpabench.suite.cell import Choice, circuit_facts
from qpabench.testing.bench import (
    ANSATZE,
    EXACT_TOLERANCE,
    KIT_SHOTS,
    NOISE_GRADIENT_LIMIT,
    NOISE_LIMIT,
    NOISE_SHOTS,
    Bench,
    CheckError,
    distance,
    expected_distance,
    native,
    native_gradient,
    random_angles,
    shots_tolerance,
)

LAYERS = 2
NOISE_LAYERS = 4
LARGE_QUBITS = 12
LARGE_SHOTS = 256
NOISE_DIFFERENCE_STEP = 1e-3  # error of second order, 1e-6: well within the tolerance


def distribution(bench: Bench) -> None:
    """Probabilities are finite, not negative, sum to 1 and have the right shape."""
    for build in ANSATZE.values():
        circuit = build(bench.n_qubits, LAYERS)
        bench.run(circuit, random_angles(circuit, 11))


def bit_order(bench: Bench) -> None:
    """One asymmetric circuit per qubit: qubit 0 is the most significant bit; a CNOT's control comes first."""
    n_qubits = min(3, bench.entry.max_qubits)
    pi = torch.tensor([torch.pi], dtype=torch.float64)
    for qubit in range(n_qubits):
        flip = Gate("rx", (qubit,), 0)
        wanted = 1 << (n_qubits - 1 - qubit)
        _expect_state(bench, Circuit(n_qubits, (flip,)), pi, wanted, f"RX(pi) on qubit {qubit}")
        if n_qubits > 1:
            other = (qubit + 1) % n_qubits
            both = wanted | 1 << (n_qubits - 1 - other)
            circuit = Circuit(n_qubits, (flip, Gate("cx", (qubit, other))))
            _expect_state(bench, circuit, pi, both, f"RX(pi) on qubit {qubit}, then CNOT({qubit}, {other})")


def _expect_state(bench: Bench, circuit: Circuit, angles: Tensor, wanted: int, what: str) -> None:
    found = bench.run(circuit, angles)
    likeliest = int(found.argmax())
    if likeliest != wanted:
        width = circuit.n_qubits
        raise CheckError(
            f"{what} of {width} gave state {likeliest:0{width}b}, expected {wanted:0{width}b}: "
            "qubit 0 must be the most significant bit, and a CNOT's first qubit its control"
        )
    bench.agree(found, native(circuit, angles), what)


def agreement(bench: Bench, ansatz: str) -> None:
    """Random angles on one ansatz give what ``native`` gives."""
    for seed in (21, 22, 23):
        circuit = ANSATZE[ansatz](bench.n_qubits, LAYERS)
        angles = random_angles(circuit, seed)
        bench.agree(bench.run(circuit, angles, seed=seed), native(circuit, angles), f"ansatz {ansatz}")


def batch(bench: Bench) -> None:
    """A batch gives one row an angle vector, in order."""
    circuit = ANSATZE["ryrz"](bench.n_qubits, LAYERS)
    angles = torch.stack([random_angles(circuit, seed) for seed in (31, 32, 33)])
    with torch.no_grad():
        rows = bench.backend.batch(circuit, angles, shots=bench.shots, seeds=[1, 2, 3])
    if len(rows) != len(angles):
        raise CheckError(f"batch returned {len(rows)} rows, expected {len(angles)}")
    for index, row in enumerate(rows):
        bench.agree(bench.distribution(circuit, row), native(circuit, angles[index]), f"batch row {index}")


def own_gradient(bench: Bench) -> None:
    """The backend's gradient is that of finite differences of ``native`` (under noise: of itself)."""
    for name, build in ANSATZE.items():
        circuit = build(bench.n_qubits, LAYERS)
        if bench.entry.noise:
            _compare_with_itself(bench, circuit, f"ansatz {name}, own gradient")
            continue
        _compare_gradient(bench, circuit, "own", f"ansatz {name}, own gradient", EXACT_TOLERANCE)


def estimators(bench: Bench) -> None:
    """The core's estimators work on the backend, and count the circuits they run."""
    circuit = ANSATZE["rxrz"](min(3, bench.entry.max_qubits), 1)
    allowed = EXACT_TOLERANCE
    if bench.sampled:
        allowed = 5 / (2 * KIT_SHOTS) ** 0.5  # five deviations of half a difference of two means in [-1, 1]
    if bench.entry.noise:
        allowed += NOISE_GRADIENT_LIMIT
    shifted = _compare_gradient(bench, circuit, "parameter-shift", "parameter-shift", allowed)
    _expect_circuits(shifted, 1 + 2 * circuit.n_angles, "parameter-shift")
    straight = _compare_gradient(bench, circuit, "straight-through", "straight-through", EXACT_TOLERANCE)
    _expect_circuits(straight, 1, "straight-through")
    function = bench.function(circuit, "spsa")
    gradient, _ = _gradient(function, circuit)
    if not bool(torch.isfinite(gradient).all()):
        raise CheckError("spsa: found a gradient that isn't finite")
    _expect_circuits(function, 1 + 2 * bench.options.spsa_repeats, "spsa")


def _compare_with_itself(bench: Bench, circuit: Circuit, what: str) -> None:
    """Under noise no other backend knows the right gradient: the backend's own differences do."""
    found, _ = _gradient(bench.function(circuit, "own"), circuit)
    cotangent, angles = _random_case(circuit)
    for index in range(circuit.n_angles):
        shift = torch.zeros_like(angles)
        shift[index] = NOISE_DIFFERENCE_STEP
        plus, minus = (float(bench.run(circuit, angles + sign * shift) @ cotangent) for sign in (1, -1))
        wanted = (plus - minus) / (2 * NOISE_DIFFERENCE_STEP)
        if not abs(float(found[index]) - wanted) <= EXACT_TOLERANCE:
            raise CheckError(
                f"{what}: the derivative by angle {index} is {float(found[index]):.6f}, expected "
                f"{wanted:.6f} within {EXACT_TOLERANCE:g} (finite differences of the backend itself)"
            )


def _random_case(circuit: Circuit) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(41)
    cotangent = torch.rand(circuit.n_states, generator=generator, dtype=torch.float64) * 2 - 1
    return cotangent, random_angles(circuit, 42)


def _gradient(function: CircuitFunction, circuit: Circuit) -> tuple[Tensor, Tensor]:
    cotangent, angles = _random_case(circuit)
    leaf = angles.clone().requires_grad_()
    value = function(leaf)
    if not value.requires_grad:
        raise CheckError("probabilities carry no gradient to the angles, expected one (entry: gradient=True)")
    (found,) = torch.autograd.grad((value * cotangent).sum(), leaf)
    return found, native_gradient(circuit, angles, cotangent)


def _compare_gradient(
    bench: Bench, circuit: Circuit, method: str, what: str, allowed: float
) -> CircuitFunction:
    function = bench.function(circuit, method)
    found, wanted = _gradient(function, circuit)
    apart = torch.where(torch.isfinite(found), (found - wanted).abs(), torch.inf)
    worst = int(apart.argmax())
    if float(apart[worst]) > allowed:
        raise CheckError(
            f"{what}: the derivative by angle {worst} is {float(found[worst]):.6f}, expected "
            f"{float(wanted[worst]):.6f} within {allowed:.2g} (finite differences of native)"
        )
    return function


def _expect_circuits(function: CircuitFunction, wanted: int, method: str) -> None:
    if function.counts.circuits != wanted:
        raise CheckError(f"{method} ran {function.counts.circuits} circuits, expected {wanted}")


def repeatable(bench: Bench) -> None:
    """The same angles and seed give the same result."""
    circuit = ANSATZE["ry"](bench.n_qubits, LAYERS)
    angles = random_angles(circuit, 51)
    apart = distance(bench.run(circuit, angles, seed=5), bench.run(circuit, angles, seed=5))
    if apart > (0 if bench.sampled else EXACT_TOLERANCE):
        raise CheckError(
            f"two runs with seed 5 differ (total variation distance {apart:.4g}), expected the same result: "
            "every random draw must come from the seed given"
        )


def seeds_differ(bench: Bench) -> None:
    """Different seeds give different shots, alone and in one batch."""
    circuit = ANSATZE["ry"](bench.n_qubits, LAYERS)
    angles = random_angles(circuit, 51)
    if distance(bench.run(circuit, angles, seed=5), bench.run(circuit, angles, seed=6)) == 0:
        raise CheckError("seeds 5 and 6 gave the same shots, expected different ones: is the seed ignored?")
    with torch.no_grad():
        rows = bench.backend.batch(circuit, torch.stack([angles, angles]), shots=bench.shots, seeds=[5, 6])
    if distance(rows[0], rows[1]) == 0:
        raise CheckError(
            "two rows of a batch with seeds 5 and 6 gave the same shots, expected different ones"
        )


def special_angles(bench: Bench) -> None:
    """Angles 0 and pi give what ``native`` gives, and finite gradients."""
    for name, build in ANSATZE.items():
        for value in (0.0, torch.pi):
            circuit = build(bench.n_qubits, LAYERS)
            angles = torch.full((circuit.n_angles,), value, dtype=torch.float64)
            what = f"ansatz {name}, all angles {value:.2f}"
            bench.agree(bench.run(circuit, angles), native(circuit, angles), what)
            if bench.own_gradient():
                leaf = angles.clone().requires_grad_()
                result = bench.backend.probabilities(circuit, leaf, shots=None, seed=1)
                (gradient,) = torch.autograd.grad(result[0], leaf)
                if not bool(torch.isfinite(gradient).all()):
                    raise CheckError(f"{what}: found a gradient that isn't finite")


def one_qubit(bench: Bench) -> None:
    """One qubit works, though it has no CNOT."""
    for name, build in ANSATZE.items():
        circuit = build(1, LAYERS)
        angles = random_angles(circuit, 61)
        bench.agree(bench.run(circuit, angles), native(circuit, angles), f"ansatz {name} on one qubit")


def twelve_qubits(bench: Bench) -> None:
    """Twelve qubits work, or as many as the entry declares; a smaller device refuses them in one line."""
    circuit = ANSATZE["ry"](min(LARGE_QUBITS, bench.entry.max_qubits), 1)
    angles = random_angles(circuit, 71)
    shots = LARGE_SHOTS if bench.sampled else None
    try:
        found = bench.run(circuit, angles, shots=shots)
    except UnsupportedError as error:
        if str(circuit.n_qubits) not in str(error):
            raise CheckError(
                f"{circuit.n_qubits} qubits were refused with {str(error)!r}, "
                "expected a message that says how many were found and how many are possible"
            ) from error
        return
    bench.agree(found, native(circuit, angles), f"{circuit.n_qubits} qubits", shots)


def qubit_limit(bench: Bench) -> None:
    """One qubit more than ``max_qubits`` is refused before anything runs, with both numbers."""
    most = bench.entry.max_qubits
    if most < 1:
        raise CheckError(f"entry declares max_qubits = {most}, expected at least 1")
    ansatz = AnsatzEntry(
        name="ry", summary="", load="qpabench.circuits.ansatze:ry", angles_shape=lambda n, layers: (layers, n)
    )
    backend = Choice(bench.entry, bench.options, bench.entry.name, "conformance kit")
    ledger = Ledger(n_generated=1, n_mapping=1, n_qubits=most + 1, n_layers=1)
    try:
        circuit_facts(backend, Choice(ansatz, ansatz.options(), "ry", "conformance kit"), ledger)
    except UnsupportedError as error:
        if str(most) in str(error) and str(most + 1) in str(error):
            return
        raise CheckError(
            f"{most + 1} qubits were refused with {str(error)!r}, expected both numbers"
        ) from error
    raise CheckError(f"{most + 1} qubits were accepted, expected a refusal above max_qubits = {most}")


def noise(bench: Bench) -> None:
    """Noise changes the distribution by more than shots alone would, and leaves it recognisable."""
    circuit = ANSATZE["rxrz"](bench.n_qubits, NOISE_LAYERS)
    angles = random_angles(circuit, 81)
    shots = NOISE_SHOTS if bench.sampled else None
    ideal = native(circuit, angles)
    apart = distance(bench.run(circuit, angles, shots=shots), ideal)
    least = EXACT_TOLERANCE if shots is None else expected_distance(ideal, shots) + shots_tolerance(shots)
    if apart <= least:
        raise CheckError(
            f"total variation distance to the ideal distribution is {apart:.4f}, expected above {least:.4f}: "
            "no noise can be seen (is the circuit transpiled to gates that carry errors?)"
        )
    if apart > NOISE_LIMIT:
        raise CheckError(
            f"total variation distance to the ideal distribution is {apart:.4f}, "
            f"expected at most {NOISE_LIMIT}"
        )
