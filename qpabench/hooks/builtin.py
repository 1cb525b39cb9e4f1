"""What ships with the core, at a glance; registered through the same hooks as anyone's."""

from __future__ import annotations

from collections.abc import Iterable

from qpabench.datasets.options import PtbOptions, TextOptions, WikiText2Options
from qpabench.generators.control_options import (
    AnglesMlpOptions,
    CollapsedOptions,
    FreeOptions,
    FrozenOptions,
    RandomProjectionOptions,
    ShuffledOptions,
    UniformOptions,
)
from qpabench.generators.options import DirectOptions, QpaOptions
from qpabench.hooks.entries import (
    AnsatzEntry,
    BackendEntry,
    DatasetEntry,
    ExecutorEntry,
    GeneratorEntry,
    ModelEntry,
    TargetEntry,
)
from qpabench.hooks.hookspecs import hookimpl
from qpabench.models.options import (
    Gemma2BOptions,
    Gemma22BOptions,
    Gpt2Options,
    Gpt2XlOptions,
    HuggingFaceOptions,
    TinyGpt2Options,
)
from qpabench.targets.options import DoraOptions, FfaOptions, LoraOptions, PrefixOptions


def _one_rotation(n_qubits: int, n_layers: int) -> tuple[int, ...]:
    return (n_layers, n_qubits)


def _two_rotations(n_qubits: int, n_layers: int) -> tuple[int, ...]:
    return (n_layers, 2, n_qubits)


@hookimpl
def qpabench_backends() -> Iterable[BackendEntry]:
    """Ship the native state vector."""
    yield BackendEntry(
        name="native",
        summary="exact state vector in torch, adjoint gradient; or its shots",
        load="qpabench.circuits.native:NativeBackend",
        exact=True,
        shots=True,
        gradient=True,
        max_qubits=24,
    )


@hookimpl
def qpabench_ansatze() -> Iterable[AnsatzEntry]:
    """Ship the four ansätze of the paper."""
    room = "qpabench.circuits.ansatze"
    yield AnsatzEntry(
        name="ry", summary="RY, CNOT chain (equation 1)", load=f"{room}:ry", angles_shape=_one_rotation
    )
    yield AnsatzEntry(
        name="rx", summary="RX, CNOT chain (equation 12)", load=f"{room}:rx", angles_shape=_one_rotation
    )
    yield AnsatzEntry(
        name="rxrz",
        summary="RX, chain, RZ, chain (equation 13)",
        load=f"{room}:rxrz",
        angles_shape=_two_rotations,
    )
    yield AnsatzEntry(
        name="ryrz",
        summary="RY, chain, RZ, chain (equation 14)",
        load=f"{room}:ryrz",
        angles_shape=_two_rotations,
    )


@hookimpl
def qpabench_targets() -> Iterable[TargetEntry]:
    """Ship the PEFT targets of the paper."""
    yield TargetEntry(
        name="lora",
        summary="low-rank update (alpha / rank) B A",
        load="qpabench.targets.lora:LoraTarget",
        options=LoraOptions,
    )
    yield TargetEntry(
        name="dora",
        summary="low-rank update of the direction, one magnitude an output",
        load="qpabench.targets.dora:DoraTarget",
        options=DoraOptions,
    )
    yield TargetEntry(
        name="prefix",
        summary="one vector a position, added to the layer's input",
        load="qpabench.targets.prefix:PrefixTarget",
        options=PrefixOptions,
    )
    yield TargetEntry(
        name="ffa",
        summary="residual bottleneck before the layer",
        load="qpabench.targets.ffa:FfaTarget",
        options=FfaOptions,
    )


@hookimpl
def qpabench_generators() -> Iterable[GeneratorEntry]:
    """Ship direct training, QPA and its controls."""
    yield GeneratorEntry(
        name="direct",
        summary="the target's numbers trained as they are",
        load="qpabench.generators.direct:DirectGenerator",
        options=DirectOptions,
        direct=True,
    )
    yield GeneratorEntry(
        name="qpa",
        summary="circuit probabilities and basis strings through a mapping model",
        load="qpabench.generators.qpa:QpaGenerator",
        options=QpaOptions,
        uses_circuit=True,
    )
    room = "qpabench.generators.controls"
    yield GeneratorEntry(
        name="uniform",
        summary="control of qpa: every probability is 2^-N, no circuit",
        load=f"{room}:UniformGenerator",
        options=UniformOptions,
    )
    yield GeneratorEntry(
        name="frozen",
        summary="control of qpa: the circuit's angles stay as drawn",
        load=f"{room}:FrozenGenerator",
        options=FrozenOptions,
        uses_circuit=True,
    )
    yield GeneratorEntry(
        name="shuffled",
        summary="control of qpa: the circuit's probabilities permuted anew in every pass",
        load=f"{room}:ShuffledGenerator",
        options=ShuffledOptions,
        uses_circuit=True,
    )
    yield GeneratorEntry(
        name="free",
        summary="control of qpa: the probabilities are a trained softmax",
        load=f"{room}:FreeGenerator",
        options=FreeOptions,
    )
    yield GeneratorEntry(
        name="angles-mlp",
        summary="control of qpa: as many trained numbers as angles, through a fixed network",
        load=f"{room}:AnglesMlpGenerator",
        options=AnglesMlpOptions,
    )
    yield GeneratorEntry(
        name="collapsed",
        summary="control of qpa: the mapping is one linear map of the same rank",
        load=f"{room}:CollapsedGenerator",
        options=CollapsedOptions,
        uses_circuit=True,
    )
    yield GeneratorEntry(
        name="random-projection",
        summary="control of qpa: a fixed random matrix times a trained vector of the same budget",
        load=f"{room}:RandomProjectionGenerator",
        options=RandomProjectionOptions,
    )


@hookimpl
def qpabench_models() -> Iterable[ModelEntry]:
    """Ship the paper's models and any other from the hub or a folder."""
    load = "qpabench.models.load:load"
    yield ModelEntry(name="gpt2", summary="GPT-2 small, 124M (Tables 2, 8)", load=load, options=Gpt2Options)
    yield ModelEntry(name="gpt2-xl", summary="GPT-2 XL, 1.5B (Table 3)", load=load, options=Gpt2XlOptions)
    yield ModelEntry(
        name="gemma-2b",
        summary='Gemma 2B, d = 2048: the counts the paper prints for "Gemma-2" are this model\'s',
        load=load,
        options=Gemma2BOptions,
    )
    yield ModelEntry(
        name="gemma-2-2b",
        summary="Gemma-2 2B, d = 2304: the model the paper names",
        load=load,
        options=Gemma22BOptions,
    )
    yield ModelEntry(
        name="huggingface",
        summary="any causal language model by repo or path",
        load=load,
        options=HuggingFaceOptions,
    )
    yield ModelEntry(
        name="tiny-gpt2",
        summary="random weights, bytes as tokens: for tests only",
        load="qpabench.models.tiny:load",
        options=TinyGpt2Options,
    )


@hookimpl
def qpabench_datasets() -> Iterable[DatasetEntry]:
    """Ship the paper's datasets and plain text files."""
    load = "qpabench.datasets.load:load_published"
    yield DatasetEntry(
        name="wikitext-2", summary="WikiText-2, raw or tokenised", load=load, options=WikiText2Options
    )
    yield DatasetEntry(name="ptb", summary="Penn Treebank", load=load, options=PtbOptions)
    yield DatasetEntry(
        name="text",
        summary="text files named in the suite",
        load="qpabench.datasets.load:load_text",
        options=TextOptions,
    )


@hookimpl
def qpabench_executors() -> Iterable[ExecutorEntry]:
    """Ship the executor for this machine."""
    yield ExecutorEntry(
        name="local", summary="processes on this machine", load="qpabench.running.local:LocalExecutor"
    )
