"""The ``released-code`` protocol against numbers of the authors' script on two small cases.

Given the same angles, mapping weights and basis strings, features, generated weights, outputs and
gradients must agree.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qpabench.circuits.ansatze import ry
from qpabench.circuits.gradients import CircuitFunction
from qpabench.circuits.native import NativeBackend
from qpabench.generators.generator import GeneratorContext
from qpabench.generators.options import QpaOptions
from qpabench.generators.qpa import QpaGenerator, scaled_probability
from qpabench.hooks.entries import BackendOptions, LayerShape
from qpabench.targets.lora import LoraTarget
from qpabench.targets.options import LoraOptions

GOLDEN = Path(__file__).parent.parent / "golden"
#: both sides compute in float32; relative to the largest entry of the compared array
TOLERANCE = 1e-5


class Reference:
    """One case, and ours run on its numbers."""

    def __init__(self, case: str) -> None:
        with np.load(GOLDEN / f"released_case_{case}.npz") as archive:
            self.given = {name: torch.from_numpy(np.array(archive[name])) for name in archive.files}
        weight = self.given["base_weight"]
        rank, n_qubits, n_layers = (int(self.given[key]) for key in ("rank", "n_qubits", "n_layers"))
        layer = LayerShape(d_in=weight.shape[1], d_out=weight.shape[0])
        lora = LoraOptions(rank=rank)
        options = QpaOptions(
            chunk_size=int(self.given["chunk_size"]),
            n_layers=n_layers,
            **QpaOptions.presets["released-code"],  # type: ignore[arg-type]
        )
        ledger = options.ledger(lora.specs(layer))
        assert ledger.n_qubits == n_qubits
        circuit = CircuitFunction(
            NativeBackend(BackendOptions()), ry(n_qubits, n_layers), BackendOptions(), "own", 0
        )
        context = GeneratorContext(lora.specs(layer), 0, n_qubits, (n_layers, n_qubits), circuit)
        self.generator = QpaGenerator(options, context)
        with torch.no_grad():
            self.generator.angles.copy_(self.given["theta"])
            for index, linear in enumerate(self.generator.mapping.layers):
                linear.weight.copy_(self.given[f"mapping_weight_{index}"])
                linear.bias.copy_(self.given[f"mapping_bias_{index}"])
        self.strings = self.given["basis_indices"]
        self.probabilities = self.generator.probabilities()
        chunks = self.generator.mapping(self.generator.features(self.probabilities, self.strings))
        self.tensors = self.generator.assemble(chunks)
        target = LoraTarget(lora, layer)
        inputs = self.given["x"].flatten(0, 1)
        self.output = target.forward(inputs, torch.arange(len(inputs)), weight, self.tensors)
        self.output.backward(self.given["cotangent"].flatten(0, 1))


@pytest.fixture(scope="module", params=["a", "b"])
def case(request: pytest.FixtureRequest) -> Reference:
    return Reference(request.param)


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    expected = expected.reshape(found.shape).double()
    error = float((found.detach().double() - expected).abs().max() / expected.abs().max())
    assert error < TOLERANCE


def test_probability_features_agree(case: Reference) -> None:
    assert_same(
        scaled_probability(case.probabilities, case.generator.n_qubits), case.given["probability_feature"]
    )


def test_generated_weights_agree(case: Reference) -> None:
    flat = torch.cat([tensor.flatten() for tensor in case.tensors.values()])
    assert_same(flat, case.given["generated"])


def test_outputs_agree(case: Reference) -> None:
    assert_same(case.output, case.given["y"])


def test_gradient_of_theta_agrees(case: Reference) -> None:
    assert case.generator.angles.grad is not None
    assert_same(case.generator.angles.grad, case.given["theta_grad"])


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_gradients_of_the_mapping_model_agree(case: Reference, part: str, index: int) -> None:
    parameter: Any = getattr(case.generator.mapping.layers[index], part)
    assert_same(parameter.grad, case.given[f"mapping_{part}_grad_{index}"])


def test_the_whole_mapping_model_is_compared(case: Reference) -> None:
    assert len(case.generator.mapping.layers) == sum(
        name.startswith("mapping_weight_grad") for name in case.given
    )
