"""Devices: from a name to a transpiled circuit on the few qubits it uses, with those qubits' noise.

The errors of a device sit on its own gates (cz, sx, x, measure), so a circuit that is not transpiled to
them would get no noise at all. Building the noise of all 133 qubits of a device costs seconds, that of the
used ones a fraction of one; the errors are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import qiskit_ibm_runtime.fake_provider as fake_provider
from qiskit import QuantumCircuit, transpile
from qiskit.providers import BackendV2, Options
from qiskit.transpiler import Target
from qiskit_aer.noise import NoiseModel, ReadoutError, depolarizing_error

from qpabench.errors import UnsupportedError, nearest
from qpabench_aer import CUSTOM, NoisyOptions, device_names

CUSTOM_BASIS = ("cz", "rz", "sx", "x")


@dataclass(frozen=True)
class Transpiled:
    """A circuit on a device.

    Args:
        circuit: on its used qubits only, renumbered 0.. in ascending order of physical index.
        physical: physical index of each of them.
        layout: physical index of each qubit of the original circuit (Qiskit's order) when it is measured.
        noise: the noise of these qubits.
    """

    circuit: QuantumCircuit
    physical: tuple[int, ...]
    layout: tuple[int, ...]
    noise: NoiseModel


class _Part(BackendV2):  # type: ignore[misc]
    """Some qubits of a device, as far as ``NoiseModel.from_backend`` asks."""

    def __init__(self, target: Target) -> None:
        super().__init__(name="part")
        self._target = target

    @property
    def target(self) -> Target:
        return self._target

    @property
    def max_circuits(self) -> None:
        return None

    @classmethod
    def _default_options(cls) -> Options:
        return Options()

    def run(self, run_input: Any, **options: Any) -> None:
        raise NotImplementedError("a part of a device is described, not run")


@lru_cache(maxsize=4)
def fake_device(name: str) -> Any:
    """Make the fake device of that name.

    Args:
        name: as ``device_names`` lists it.

    Raises:
        UnsupportedError: there is none; the message offers the nearest.
    """
    for attribute in dir(fake_provider):
        made = getattr(fake_provider, attribute)
        if Path(getattr(made, "dirname", "")).name == name:
            return made()
    raise UnsupportedError(f"noisy: unknown device {name!r}; {nearest(name, [*device_names(), CUSTOM])}")


def transpile_to_device(circuit: QuantumCircuit, options: NoisyOptions) -> Transpiled:
    """Transpile a parametrised circuit to the device and keep the qubits it uses.

    Args:
        circuit: with free parameters, measured.
        options: device, seed, optimization level, own rates.

    Raises:
        UnsupportedError: unknown device, too few qubits, or no error on any gate of the circuit.
    """
    transpiled = (
        _transpile_custom(circuit, options) if options.device == CUSTOM else _transpile(circuit, options)
    )
    used = transpiled.circuit.count_ops()
    if not set(used) & set(transpiled.noise.noise_instructions):
        raise UnsupportedError(
            f"noisy: device {options.device!r} has no error on any gate of this circuit "
            f"({', '.join(used)}); expected some; take the backend aer-shots"
        )
    return transpiled


def device_facts(options: NoisyOptions, transpiled: Transpiled | None) -> dict[str, object]:
    """Return device, layout (physical qubit of our qubits in order), depth and gate counts, for the record.

    Args:
        options: what was asked for.
        transpiled: the circuit, None if none has been run.
    """
    facts: dict[str, object] = {
        "device": options.device,
        "transpile_seed": options.transpile_seed,
        "optimization_level": options.optimization_level,
    }
    if transpiled is None:
        return facts
    return facts | {
        "layout": list(reversed(transpiled.layout)),
        "depth": transpiled.circuit.depth(),
        "two_qubit_gates": transpiled.circuit.num_nonlocal_gates(),
        "gates": {name: int(count) for name, count in transpiled.circuit.count_ops().items()},
        "noisy_gates": sorted(transpiled.noise.noise_instructions),
    }


def _transpile(circuit: QuantumCircuit, options: NoisyOptions) -> Transpiled:
    device = fake_device(options.device)
    if circuit.num_qubits > device.num_qubits:
        raise UnsupportedError(
            f"noisy: device {options.device!r} has {device.num_qubits} qubits, "
            f"found a circuit of {circuit.num_qubits}; take a larger device or larger chunks"
        )
    whole = transpile(
        circuit, device, optimization_level=options.optimization_level, seed_transpiler=options.transpile_seed
    )
    physical = tuple(
        sorted({whole.find_bit(qubit).index for instruction in whole.data for qubit in instruction.qubits})
    )
    compact = {index: position for position, index in enumerate(physical)}
    small = QuantumCircuit(len(physical), circuit.num_clbits)
    for instruction in whole.data:
        small.append(
            instruction.operation,
            [compact[whole.find_bit(qubit).index] for qubit in instruction.qubits],
            [whole.find_bit(bit).index for bit in instruction.clbits],
        )
    noise = NoiseModel.from_backend(_Part(_reduced(device.target, compact)))
    return Transpiled(small, physical, tuple(whole.layout.final_index_layout(filter_ancillas=True)), noise)


def _reduced(target: Target, compact: dict[int, int]) -> Target:
    qubits = target.qubit_properties
    part = Target(
        num_qubits=len(compact),
        dt=target.dt,
        qubit_properties=[qubits[index] for index in compact] if qubits else None,
    )
    for name in target.operation_names:
        properties = {
            tuple(compact[qubit] for qubit in where): value
            for where, value in target[name].items()
            if where is not None and all(qubit in compact for qubit in where)
        }
        if properties:
            part.add_instruction(target.operation_from_name(name), properties, name=name)
    return part


def _transpile_custom(circuit: QuantumCircuit, options: NoisyOptions) -> Transpiled:
    """Transpile to cz, rz, sx, x with every pair of qubits connected; rz is virtual and has no error."""
    result = transpile(
        circuit,
        basis_gates=list(CUSTOM_BASIS),
        optimization_level=options.optimization_level,
        seed_transpiler=options.transpile_seed,
    )
    noise = NoiseModel(basis_gates=list(CUSTOM_BASIS))
    if options.depolarizing_1q:
        noise.add_all_qubit_quantum_error(depolarizing_error(options.depolarizing_1q, 1), ["sx", "x"])
    if options.depolarizing_2q:
        noise.add_all_qubit_quantum_error(depolarizing_error(options.depolarizing_2q, 2), ["cz"])
    if options.readout_error:
        flip = options.readout_error
        noise.add_all_qubit_readout_error(ReadoutError([[1 - flip, flip], [flip, 1 - flip]]))
    qubits = tuple(range(circuit.num_qubits))
    layout = qubits if result.layout is None else tuple(result.layout.final_index_layout())
    return Transpiled(result, qubits, layout, noise)
