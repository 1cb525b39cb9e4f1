"""What a plugin author hands over: frozen descriptions that import neither torch nor an SDK.

An entry names a component, says what may be asked of it (``options``), what is known of it without
loading it (the methods of the options models below), and where it is (``load``).
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from qpabench.errors import PluginError, UnsupportedError

Init = Literal["zeros", "normal", "kaiming"]


@dataclass(frozen=True)
class LayerShape:
    """The linear layer a target adapts.

    Args:
        d_in: input width d.
        d_out: output width (the vocabulary size V for ``lm_head``).
        n_positions: the longest row of the dataset in tokens.
    """

    d_in: int
    d_out: int
    n_positions: int = 512


@dataclass(frozen=True)
class TensorSpec:
    """One tensor that a target needs and a generator fills.

    Args:
        name: the name under which the target receives it.
        shape: its shape.
        init: how ``direct`` initialises it: zeros, ``normal`` (N(0, 0.01^2)) or ``kaiming``
            (uniform in +-1/sqrt(fan_in), as PEFT initialises ``lora_A``).
        zero_at_start: with ``start = "zero"`` its initial value is subtracted as a constant. A target marks
            those tensors whose being zero makes its initial update vanish.
    """

    name: str
    shape: tuple[int, ...]
    init: Init = "normal"
    zero_at_start: bool = False

    @property
    def numel(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Ledger:
    """What a generator trains, counted without building it.

    Args:
        n_generated: numbers put into the target, m.
        n_free: numbers of the target trained as they are (m for ``direct``).
        n_mapping: trainable numbers of the mapping model.
        n_chunks: n_ch = ceil(m / chunk size), absent without chunks (equation 5).
        chunk_size: n_mlp.
        n_qubits: N = ceil(log2 n_ch), at least 1 (equation 8).
        n_layers: L, repetitions of the ansatz.
        trains_theta: False for a control whose circuit stays as drawn.
    """

    n_generated: int
    n_free: int = 0
    n_mapping: int = 0
    n_chunks: int | None = None
    chunk_size: int | None = None
    n_qubits: int | None = None
    n_layers: int | None = None
    trains_theta: bool = True


class Options(BaseModel):
    """Base of every options model: strict, frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    #: What a protocol (``released-code``, ``paper-text``) changes in the defaults of this component.
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    #: Options shown in a cell's label even at their default.
    always_told: ClassVar[tuple[str, ...]] = ()

    def missing(self) -> str | None:
        """Say what this machine lacks to run the component with these options, and how to get it.

        Returns:
            None when nothing is missing; else one line with the command that installs it.
        """
        return None

    def canonical(self) -> str:
        """Return the options as canonical JSON, the text that goes into a cell's id."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


class BackendOptions(Options):
    """What may be asked of any circuit backend."""

    shots: int | None = Field(default=None, ge=1, description="shots per circuit; absent: exact")
    shots_per_state: int | None = Field(
        default=None, ge=1, description="shots per circuit as a multiple of 2**n_qubits (Appendix G)"
    )
    gradient: Literal["auto", "own", "parameter-shift", "spsa", "straight-through"] = Field(
        default="auto", description="gradient estimator for the angles"
    )
    spsa_step: float = Field(default=0.1, gt=0, description="SPSA perturbation, radians")
    spsa_repeats: int = Field(default=1, ge=1, description="SPSA directions averaged per step")

    def shots_for(self, n_qubits: int) -> int | None:
        """Return the shots of one circuit on that many qubits, or None for exact probabilities."""
        if self.shots_per_state is not None:
            return self.shots_per_state * (1 << n_qubits)
        return self.shots


class GeneratorOptions(Options):
    """What may be asked of any generator."""

    start: Literal["random", "zero"] = Field(
        default="random",
        description="zero: the initial update is subtracted as a constant, so training begins at the base",
    )

    def ledger(self, specs: tuple[TensorSpec, ...]) -> Ledger:
        """Count what this generator would train to fill these tensors."""
        raise NotImplementedError

    def held_still(self) -> Self:
        """Return the same without what is drawn anew in every pass, for an export."""
        return self


class TargetOptions(Options):
    """What may be asked of any PEFT target."""

    target_modules: list[str] = Field(
        default=["lm_head"],
        min_length=1,
        description="linear layers by name or its end, as in PEFT; lm_head: the output layer of any model",
    )

    #: Tables 4 to 7 of the paper, for ``train.preset = "paper"``: model family -> options of training and of
    #: this target; ``"<family>/generated"`` adds what differs where the target's numbers are generated.
    hyperparameters: ClassVar[Mapping[str, Mapping[str, object]]] = {}

    @property
    def is_on_head(self) -> bool:
        """Whether the output layer alone is adapted, so that all before it stays frozen."""
        return self.target_modules == ["lm_head"]

    @classmethod
    def published(cls, family: str | None, *, generated: bool) -> dict[str, object] | None:
        """Return the paper's hyperparameters for a model family.

        Args:
            family: as ``ModelOptions.family``.
            generated: whether a generator other than ``direct`` fills the target.
        """
        if family is None or family not in cls.hyperparameters:
            return None
        other = cls.hyperparameters.get(f"{family}/generated", {}) if generated else {}
        return {**cls.hyperparameters[family], **other}

    def specs(self, layer: LayerShape) -> tuple[TensorSpec, ...]:
        """Return the tensors the target needs, in the order in which a flat vector is cut."""
        raise NotImplementedError


class ModelOptions(Options):
    """What may be asked of any language model."""

    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="cpu, cuda or cuda:N")
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    #: which column of Tables 4 to 7 applies: "gpt-2", "gemma" or None
    family: ClassVar[str | None] = None

    def shape(self) -> tuple[int, int] | None:
        """Return (d_in, d_out) of ``lm_head`` without loading weights; None when that isn't known."""
        return None

    def n_parameters(self) -> int | None:
        """Return how many numbers the model has, a tied ``lm_head`` counted once; None if not known."""
        return None

    def source(self) -> str | None:
        """Return where transformers finds the weights: repository or folder; None where there is neither."""
        return None

    def loading(self) -> str:
        """Return Python that loads the model as ``base`` with transformers alone, for a model card."""
        where = self.source() or "path/of/the/base/model"
        return f"base = AutoModelForCausalLM.from_pretrained({where!r})\n"

    def fingerprint(self) -> str:
        """Identify the weights: which release, file or folder."""
        raise NotImplementedError


class DatasetOptions(Options):
    """What may be asked of any dataset."""

    rows: Literal["lines", "blocks"] = Field(
        default="lines", description="lines: one line = one row, padded; blocks: contiguous tokens"
    )
    line_end: bool = Field(default=False, description="a line keeps its line end, unless it is blank")
    max_length: int = Field(default=512, ge=2, le=131072, description="tokens per row")
    train_rows: int | None = Field(default=None, ge=1, description="rows kept, evenly spaced; absent: all")
    validation_rows: int | None = Field(default=None, ge=1)
    test_rows: int | None = Field(default=None, ge=1)

    def published_rows(self) -> Mapping[str, int]:
        """Return how many rows each split has as published, where that is known without reading it."""
        return {}

    def fingerprint(self) -> str:
        """Identify the text: a release, or a hash of the files."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What every entry has.

    Args:
        name: the name used in suites; lower case letters, digits and single hyphens.
        summary: one line for ``qpabench list``.
        load: ``"module:attribute"`` of the component, imported only when a cell needs it.
        options: the pydantic model of what may be asked.
        behaviour_version: raise it whenever the same options give other numbers; cells then run anew.
    """

    kind: ClassVar[str]
    name: str
    summary: str
    load: str
    options: type[Options] = Options
    behaviour_version: int = 1

    def component(self) -> Any:
        """Import the component.

        Raises:
            PluginError: the module or the attribute isn't there; the message names both.
        """
        module_name, _, attribute = self.load.partition(":")
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            raise PluginError(f"{self.kind} {self.name!r}: cannot load {self.load!r}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class BackendEntry(Entry):
    """A circuit backend: the probabilities of a circuit for given angles.

    Args:
        exact: gives exact probabilities when no shots are asked for.
        shots: can sample.
        noise: its probabilities differ from the ideal ones by design.
        gradient: its exact probabilities carry a gradient to the angles (autograd).
        max_qubits: more are refused before anything runs.
    """

    kind: ClassVar[str] = "backend"
    options: type[Options] = BackendOptions
    exact: bool = True
    shots: bool = False
    noise: bool = False
    gradient: bool = False
    max_qubits: int = 20

    def gradient_method(self, options: BackendOptions) -> str:
        """Return the gradient estimator that serves these options.

        Args:
            options: ``gradient = "auto"`` takes the backend's own where it has one, else parameter-shift.

        Raises:
            UnsupportedError: the backend can't serve what was asked for.
        """
        sampled = options.shots is not None or options.shots_per_state is not None
        if sampled and not self.shots:
            raise UnsupportedError(f"backend {self.name} can't sample; expected no shots")
        if not sampled and not self.exact:
            raise UnsupportedError(f"backend {self.name} needs shots; set shots or shots_per_state")
        own = self.gradient and not sampled
        if options.gradient == "own" and not own:
            raise UnsupportedError(
                f"backend {self.name} has no gradient of its own"
                + (" with shots" if sampled else "")
                + "; use parameter-shift, spsa or straight-through"
            )
        if options.gradient == "auto":
            return "own" if own else "parameter-shift"
        return options.gradient

    def circuits_per_step(self, options: BackendOptions, n_theta: int) -> int:
        """Return how many circuits one training step runs: one forward, and those of the estimator."""
        method = self.gradient_method(options)
        if method == "parameter-shift":
            return 1 + 2 * n_theta
        if method == "spsa":
            return 1 + 2 * options.spsa_repeats
        return 1


@dataclass(frozen=True, kw_only=True)
class AnsatzEntry(Entry):
    """A circuit ansatz. ``load`` is a function ``(n_qubits, n_layers) -> Circuit``.

    Args:
        angles_shape: ``(n_qubits, n_layers) -> shape`` of theta.
    """

    kind: ClassVar[str] = "ansatz"
    angles_shape: Callable[[int, int], tuple[int, ...]] = field()


@dataclass(frozen=True, kw_only=True)
class TargetEntry(Entry):
    """A PEFT target: where the numbers go in the model."""

    kind: ClassVar[str] = "target"
    options: type[Options] = TargetOptions


@dataclass(frozen=True, kw_only=True)
class GeneratorEntry(Entry):
    """What produces the numbers of a target.

    Args:
        uses_circuit: needs a backend and an ansatz; without, those two are left out of the cell.
        direct: trains the target's numbers as they are, generates none.
    """

    kind: ClassVar[str] = "generator"
    options: type[Options] = GeneratorOptions
    uses_circuit: bool = False
    direct: bool = False


@dataclass(frozen=True, kw_only=True)
class DatasetEntry(Entry):
    """A dataset. ``load`` is a function ``(options) -> Splits``."""

    kind: ClassVar[str] = "dataset"
    options: type[Options] = DatasetOptions


@dataclass(frozen=True, kw_only=True)
class ModelEntry(Entry):
    """A causal language model. ``load`` is a function ``(options) -> LoadedModel``."""

    kind: ClassVar[str] = "model"
    options: type[Options] = ModelOptions


@dataclass(frozen=True, kw_only=True)
class ExecutorEntry(Entry):
    """Runs planned cells somewhere: this machine, a cluster."""

    kind: ClassVar[str] = "executor"


@dataclass(frozen=True, kw_only=True)
class ReporterEntry(Entry):
    """Writes something from records. ``load`` is a function ``(run_directory) -> list of paths``."""

    kind: ClassVar[str] = "reporter"
