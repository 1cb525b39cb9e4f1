"""The three methods on one linear layer, written so that PEFT gives the same update for the same numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from qpabench import LayerShape
from qpabench.targets.target import Factors, Target
from qpabench_peft.options import FourierFtOptions, TinyLoraOptions, UniLoraOptions, VeraOptions

ROWS_AT_A_TIME = 8192  # of a weight that is turned into float64


class VeraTarget(Target):
    """VeRA: u = (x A^T) d, and b B as the other factor."""

    adds_to_logits = True
    reads_weight = False

    def __init__(self, options: VeraOptions, layer: LayerShape) -> None:
        super().__init__(options, layer)
        self.options = options
        random = torch.Generator().manual_seed(options.projection_key)
        # He's uniform initialisation, A before B: the numbers PEFT draws from the same key
        self.A = _he_uniform((options.rank, layer.d_in), random)
        self.B = _he_uniform((layer.d_out, options.rank), random)

    def prepare(self, weight: Tensor) -> None:
        """Move the projections to where the weight is."""
        self.A, self.B = self.A.to(weight.device), self.B.to(weight.device)

    def factors(
        self,
        inputs: Tensor,
        positions: Tensor,
        weight: Tensor,
        tensors: Mapping[str, Tensor],
        random: torch.Generator | None,
    ) -> Factors:
        """Return both factors; see ``Target``."""
        d = self.options.d_initial + tensors["lambda_d"]
        u = (inputs @ self.A.to(inputs).T) * d
        return Factors(inputs, low_rank=(u, self.B.to(inputs) * tensors["lambda_b"].unsqueeze(1)))

    def peft_config(self) -> dict[str, Any]:
        """Return rank and key; PEFT draws the projections again."""
        return {
            "peft_type": "VERA",
            "r": self.options.rank,
            "projection_prng_key": self.options.projection_key,
            "d_initial": self.options.d_initial,
            "save_projection": False,
        }

    def peft_tensors(self, weight: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return both vectors, d whole."""
        return {
            "vera_lambda_b": tensors["lambda_b"],
            "vera_lambda_d": self.options.d_initial + tensors["lambda_d"],
        }


class UniLoraTarget(Target):
    """Uni-LoRA: both factors gathered out of one vector."""

    adds_to_logits = True
    reads_weight = False

    def __init__(self, options: UniLoraOptions, layer: LayerShape) -> None:
        super().__init__(options, layer)
        self.options = options
        n_A, n_B = options.rank * layer.d_in, options.rank * layer.d_out
        random = torch.Generator().manual_seed(options.projection_key)
        index = torch.randperm(n_A + n_B, generator=random) % options.budget
        scale = torch.bincount(index, minlength=options.budget).float().rsqrt()[index]
        shapes = (options.rank, layer.d_in), (layer.d_out, options.rank)
        self.index_A, self.index_B = (
            part.reshape(s) for part, s in zip(index.split([n_A, n_B]), shapes, strict=True)
        )
        self.scale_A, self.scale_B = (
            part.reshape(s) for part, s in zip(scale.split([n_A, n_B]), shapes, strict=True)
        )

    def prepare(self, weight: Tensor) -> None:
        """Move indices and scales to where the weight is."""
        self.index_A, self.index_B, self.scale_A, self.scale_B = (
            part.to(weight.device) for part in (self.index_A, self.index_B, self.scale_A, self.scale_B)
        )

    def lora(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return A (r, d) and B (V, r)."""
        vector = tensors["theta_d"]
        device = vector.device
        A = vector[self.index_A.to(device)] * self.scale_A.to(device)
        B = vector[self.index_B.to(device)] * self.scale_B.to(device)
        return A, B

    def factors(
        self,
        inputs: Tensor,
        positions: Tensor,
        weight: Tensor,
        tensors: Mapping[str, Tensor],
        random: torch.Generator | None,
    ) -> Factors:
        """Return u = x A^T and B; see ``Target``."""
        A, B = self.lora(tensors)
        return Factors(inputs, low_rank=(inputs @ A.T, B))

    def peft_config(self) -> dict[str, Any]:
        """Return what loads as plain LoRA: once trained, the factors are just that."""
        return {"peft_type": "LORA", "r": self.options.rank, "lora_alpha": self.options.rank}

    def peft_tensors(self, weight: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return both factors."""
        A, B = self.lora(tensors)
        return {"lora_A.weight": A, "lora_B.weight": B}


class FourierFtTarget(Target):
    """FourierFT: the update as the real part of an inverse Fourier transform, whole."""

    adds_to_logits = True
    reads_weight = False

    def __init__(self, options: FourierFtOptions, layer: LayerShape) -> None:
        super().__init__(options, layer)
        self.options = options
        random = torch.Generator().manual_seed(options.location_key)
        self.locations = torch.randperm(layer.d_out * layer.d_in, generator=random)[: options.budget].clone()

    def prepare(self, weight: Tensor) -> None:
        """Move the locations to where the weight is."""
        self.locations = self.locations.to(weight.device)

    def update(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return Delta W (V, d)."""
        spectrum = tensors["spectrum"]
        flat = spectrum.new_zeros(self.layer.d_out * self.layer.d_in)
        flat = flat.index_put((self.locations.to(spectrum.device),), spectrum)
        return torch.fft.ifft2(flat.reshape(self.layer.d_out, self.layer.d_in)).real * self.options.scaling

    def factors(
        self,
        inputs: Tensor,
        positions: Tensor,
        weight: Tensor,
        tensors: Mapping[str, Tensor],
        random: torch.Generator | None,
    ) -> Factors:
        """Return the input and the whole update as its factors; see ``Target``."""
        return Factors(inputs, low_rank=(inputs, self.update(tensors)))

    def peft_config(self) -> dict[str, Any]:
        """Return budget, key and scaling."""
        return {
            "peft_type": "FOURIERFT",
            "n_frequency": self.options.budget,
            "random_loc_seed": self.options.location_key,
            "scaling": self.options.scaling,
        }

    def peft_tensors(self, weight: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the coefficients."""
        return {"fourierft_spectrum": tensors["spectrum"]}


class TinyLoraTarget(Target):
    """TinyLoRA: a small matrix between frozen factors of the weight, out of one trained vector."""

    def __init__(self, options: TinyLoraOptions, layer: LayerShape) -> None:
        super().__init__(options, layer)
        self.options = options
        random = torch.Generator().manual_seed(options.projection_key)
        shape = (options.budget, options.rank, options.rank)
        self.P = torch.normal(0.0, options.rank**-0.5, shape, generator=random)
        self._frozen: tuple[Tensor, Tensor] | None = None

    def prepare(self, weight: Tensor) -> None:
        """Decompose the frozen weight; move the fixed projections to where it is."""
        self._frozen = _leading_factors(weight, self.options.rank)
        self.P = self.P.to(weight.device)

    def lora(self, weight: Tensor, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return R A (r, d) and B (V, r), with A = sqrt(S) V^T and B = U sqrt(S)."""
        if self._frozen is None:
            self.prepare(weight)
        assert self._frozen is not None
        A, B = (factor.to(weight) for factor in self._frozen)
        v = tensors["v"]
        R = torch.einsum("i,ijk->jk", v, self.P.to(v))
        return R @ A, B

    def factors(
        self,
        inputs: Tensor,
        positions: Tensor,
        weight: Tensor,
        tensors: Mapping[str, Tensor],
        random: torch.Generator | None,
    ) -> Factors:
        """Return u = x A^T R^T and B; see ``Target``."""
        A, B = self.lora(weight, tensors)
        return Factors(inputs, low_rank=(inputs @ A.T, B))

    def peft_config(self) -> dict[str, Any]:
        """Return what loads as plain LoRA: once trained, the factors are just that."""
        return {"peft_type": "LORA", "r": self.options.rank, "lora_alpha": self.options.rank}

    def peft_tensors(self, weight: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return both factors."""
        A, B = self.lora(weight, tensors)
        return {"lora_A.weight": A, "lora_B.weight": B}


def _leading_factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return A = sqrt(S) V^T (r, d) and B = U sqrt(S) (V, r) of the leading singular values.

    From the eigenvectors of W^T W in float64: a vocabulary is long, and all of U would be as large as W.
    """
    with torch.no_grad():
        gram = sum(
            (part.double().T @ part.double() for part in weight.split(ROWS_AT_A_TIME)),
            start=weight.new_zeros(weight.shape[1], weight.shape[1], dtype=torch.float64),
        )
        values, vectors = torch.linalg.eigh(gram)
        V = vectors.flip(1)[:, :rank]
        largest = V.gather(0, V.abs().argmax(0, keepdim=True))
        V = V * largest.sign()
        root = values.flip(0)[:rank].clamp(min=torch.finfo(torch.float64).tiny) ** 0.25  # sqrt(S)
        return (V * root).T.to(weight), ((weight @ V.to(weight)) / root).to(weight)


def _he_uniform(shape: tuple[int, int], random: torch.Generator) -> Tensor:
    bound = math.sqrt(6 / shape[1])
    return torch.empty(shape).uniform_(-bound, bound, generator=random)
