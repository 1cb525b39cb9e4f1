"""What may be asked of the built-in language models, and what is known of them without loading them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from qpabench import hub
from qpabench.hooks.entries import ModelOptions
from qpabench.models import weights
from qpabench.paths import LocalPath

REPO = r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$"


class PretrainedOptions(ModelOptions):
    """A causal language model from the hub or from a local folder."""

    path: LocalPath | None = Field(
        default=None, min_length=1, description="local folder (config.json, weights, tokenizer)"
    )
    revision: str = Field(default="main", min_length=1, description="branch, tag or commit on the hub")

    def repository(self) -> str | None:
        """Return the repository on the hub; None when only ``path`` says what to load."""
        raise NotImplementedError

    def remote_code(self) -> bool:
        """Tell whether code that comes with the weights may be run."""
        return False

    def source(self) -> str | None:
        """Return the folder, or else the repository."""
        return self.path if self.path is not None else self.repository()

    def folder(self) -> Path | None:
        """Return the local folder or the snapshot already downloaded; None when there is neither."""
        if self.path is not None:
            return Path(self.path).expanduser()
        repo = self.repository()
        return hub.cached_snapshot(repo, self.revision) if repo else None

    def commit(self) -> str | None:
        """Return the commit of the snapshot that is used; None before the download and for a folder."""
        folder = self.folder() if self.path is None else None
        return folder.name if folder else None

    def shape(self) -> tuple[int, int] | None:
        """Return (d_in, d_out) of ``lm_head`` from the folder's or snapshot's config.json, else None."""
        folder = self.folder()
        return weights.head_shape(folder) if folder else None

    def missing(self) -> str | None:
        """Say whether weights are absent and can't be fetched, or are cut short."""
        folder = self.folder()
        if self.path is not None:
            assert folder is not None
            return weights.folder_problem(folder)
        if not hub.is_offline():
            return None
        problem = weights.folder_problem(folder) if folder else "they are not on this machine"
        return self.advice(problem) if problem else None

    def advice(self, problem: str) -> str:
        """Return one line that says how to get the weights.

        Args:
            problem: what was found.
        """
        offline = " and HF_HUB_OFFLINE forbids asking the hub" if hub.is_offline() else ""
        revision = "" if self.revision == "main" else f" --revision {self.revision}"
        return (
            f"weights of {self.repository()}: {problem}{offline}; on a machine with network run "
            f"`hf download {self.repository()}{revision}`, or give a local folder as path"
        )

    def fingerprint(self) -> str:
        """Return repository and revision, or a hash of the folder's files."""
        if self.path is not None:
            return weights.folder_fingerprint(Path(self.path).expanduser())
        return f"hub:{self.repository()}@{self.revision}"


class KnownModelOptions(PretrainedOptions):
    """A published model: its shape is known without it, and another model under its name is refused."""

    repo: ClassVar[str]
    known_shape: ClassVar[tuple[int, int]]
    known_parameters: ClassVar[int]

    def repository(self) -> str:
        """Return the repository on the hub."""
        return self.repo

    def shape(self) -> tuple[int, int]:
        """Return (d_in, d_out) of ``lm_head`` as published."""
        return self.known_shape

    def n_parameters(self) -> int:
        """Return how many numbers the published model has."""
        return self.known_parameters

    def missing(self) -> str | None:
        """Say whether weights are absent, cut short or those of another model."""
        problem = super().missing()
        if problem or self.path is None:
            return problem
        found = weights.head_shape(Path(self.path).expanduser())
        if found is not None and found != self.known_shape:
            return (
                f"{self.path} holds a model with (d, V) = {found}, expected {self.known_shape} as in "
                f'{self.repo}; name it {{ name = "huggingface", path = ... }} instead'
            )
        return None


class Gpt2Options(KnownModelOptions):
    """GPT-2 small, 124M (Tables 2 and 8 of the paper)."""

    repo: ClassVar[str] = "openai-community/gpt2"
    known_shape: ClassVar[tuple[int, int]] = (768, 50257)
    known_parameters: ClassVar[int] = 124_439_808
    family: ClassVar[str | None] = "gpt-2"


class Gpt2XlOptions(KnownModelOptions):
    """GPT-2 XL, 1.5B (Table 3)."""

    repo: ClassVar[str] = "openai-community/gpt2-xl"
    known_shape: ClassVar[tuple[int, int]] = (1600, 50257)
    known_parameters: ClassVar[int] = 1_557_611_200
    family: ClassVar[str | None] = "gpt-2"


class Gemma2BOptions(KnownModelOptions):
    """Gemma 2B. Differs: the paper says "Gemma-2", but all its counts need this model's d = 2048."""

    repo: ClassVar[str] = "google/gemma-2b"
    known_shape: ClassVar[tuple[int, int]] = (2048, 256000)
    known_parameters: ClassVar[int] = 2_506_172_416
    family: ClassVar[str | None] = "gemma"


class Gemma22BOptions(KnownModelOptions):
    """Gemma-2 2B, d = 2304: the model the paper names, not the one its counts belong to."""

    repo: ClassVar[str] = "google/gemma-2-2b"
    known_shape: ClassVar[tuple[int, int]] = (2304, 256000)
    known_parameters: ClassVar[int] = 2_614_341_888
    family: ClassVar[str | None] = "gemma"


class HuggingFaceOptions(PretrainedOptions):
    """Any causal language model by repository or local folder."""

    repo: str | None = Field(default=None, pattern=REPO, description="owner/name on the hub")
    trust_remote_code: bool = Field(default=False, description="run code that comes with the weights")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.repo is None) == (self.path is None):
            raise ValueError("expected exactly one of repo and path")
        return self

    def repository(self) -> str | None:
        """Return the repository on the hub, or None for a folder."""
        return self.repo

    def remote_code(self) -> bool:
        """Tell whether the suite allows code that comes with the weights."""
        return self.trust_remote_code


class TinyGpt2Options(ModelOptions):
    """A GPT-2 with random weights and bytes as tokens, for tests: nothing is downloaded or read."""

    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="seed of the random weights")
    tied: bool = Field(default=True, description="lm_head shares its weight with the input embedding")

    n_positions: ClassVar[int] = 128
    known_shape: ClassVar[tuple[int, int]] = (32, 257)
    family: ClassVar[str | None] = "gpt-2"

    def shape(self) -> tuple[int, int]:
        """Return (d_in, d_out) of ``lm_head``."""
        return self.known_shape

    def fingerprint(self) -> str:
        """Return what the weights are drawn from."""
        return f"tiny-gpt2:seed={self.seed}:tied={self.tied}"
