"""What enters a frozen ``lm_head``, computed once per (model, dataset, protocol) and kept on disk.

One folder a key, published whole by renaming; memory-mapped and shared by processes:

```
meta.json                    rows, shares, identities, seconds it took
head.npy [head_bias.npy]     the frozen output layer
<split>_features.npy         (tokens, d)   what enters lm_head at each scored position
<split>_labels.npy           (tokens,)     the token to be predicted there
<split>_mask.npy             (tokens,)     whether that token is text (not padding)
<split>_row.npy  <split>_position.npy      where it stands
<split>_base_nll.npy         (tokens,)     NLL of the untrained model, nats (not for train)
<split>_ids.npy  <split>_attention.npy     (rows, length)   for cells whose backbone is run live
```

Splits: train, validation (if any), test, and stream (the test text as one contiguous stream).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qpabench.cache import make_room, published
from qpabench.devices import gathered
from qpabench.hooks.entries import LayerShape
from qpabench.suite.cell import Cell
from qpabench.targets.target import Factors, Target
from qpabench.training.budget import FEATURES, features_bytes
from qpabench.training.kept_loss import KeptFactors, KeptLogits
from qpabench.training.keys import features_key
from qpabench.training.write_features import write_features

RESIDENT_SHARE = 0.5  # of a GPU's free memory, that a split may take
TRIED_ROWS = 64  # of a split, when it is asked whether its numbers are those of bfloat16
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Split:
    """One split, on disk or in memory; all arrays are flat over its scored positions."""

    features: Tensor
    labels: Tensor
    mask: Tensor
    row: Tensor
    position: Tensor
    base_nll: Tensor | None
    ids: Tensor | None = None
    attention: Tensor | None = None
    kept: KeptLogits | None = None

    @property
    def n_rows(self) -> int:
        """Rows, or windows of a stream."""
        return int(self.row[-1]) + 1


@dataclass(frozen=True)
class Features:
    """Everything a cell on a frozen ``lm_head`` needs; neither backbone nor tokenizer."""

    weight: Tensor
    bias: Tensor | None
    softcap: float | None
    splits: Mapping[str, Split]
    meta: Mapping[str, Any]

    @property
    def head_path(self) -> str:
        """How losses of the output layer are computed.

        ``autograd``, ``one-pass`` or ``kept-logits`` on the CPU, or the last for the splits in brackets and
        the second for the others; elsewhere ``blocks``, or ``blocks-bfloat16`` where the weight is kept so.
        """
        if self.softcap is not None:
            return "autograd"
        if self.weight.device.type != "cpu":
            return "blocks-bfloat16" if self.weight.dtype == torch.bfloat16 else "blocks"
        kept = [name for name, split in self.splits.items() if split.kept]
        if len(kept) == len(self.splits):
            return "kept-logits"
        return f"kept-logits ({', '.join(kept)}), one-pass" if kept else "one-pass"

    def layers(self) -> dict[str, LayerShape] | None:
        """Return the shapes of the adapted layers by name; None where that is the output layer alone."""
        return None

    def factors(
        self,
        target: Target,
        split: Split,
        positions: Tensor | slice,
        tensors: Mapping[str, Tensor],
        random: torch.Generator | None,
    ) -> Factors:
        """Return the factors of the adapted output layer at some positions of a split.

        Args:
            target: the adapted layer.
            split: where the positions stand.
            positions: places in the split's flat arrays.
            tensors: of the target.
            random: for dropout; None when measuring.
        """
        device = self.weight.device
        stored, places = (gathered(part, positions, device) for part in (split.features, split.position))
        inputs = stored.float() if stored.dtype == torch.bfloat16 else stored
        factors = target.factors(inputs, places, self.weight, tensors, random)
        if self.weight.dtype == torch.bfloat16 and factors.inputs is inputs:
            factors.inputs = stored.bfloat16()
        if split.kept is None or factors.inputs is not inputs or factors.scale is not None:
            return factors
        if factors.low_rank is None or not split.kept.has(positions):
            return factors
        return KeptFactors(inputs, factors.low_rank, source=split.kept, positions=positions)

    def on(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Features:
        """Return the same with the output layer on a device; splits stay where they are.

        Args:
            device: where losses are computed.
            dtype: of the weight, float32 or bfloat16; bfloat16 is taken where the weight and what enters it
                are such numbers, so that nothing is rounded, and no softcap wants all logits at once.
        """
        weight = self.weight
        if dtype == torch.bfloat16 and self.softcap is None and self._is_bfloat16():
            weight = weight.to(dtype)
        bias = None if self.bias is None else self.bias.to(device)
        return replace(self, weight=weight.to(device), bias=bias)

    def resident(self, split: Split) -> Split:
        """Return a split whose inputs, labels and positions are on the output layer's device, if they fit."""
        device, dtype = self.weight.device, self.weight.dtype
        wanted = split.features.numel() * dtype.itemsize + 2 * split.labels.numel() * split.labels.itemsize
        if device.type == "cuda" and wanted > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            return split
        return replace(
            split,
            features=split.features.to(dtype).to(device),
            labels=split.labels.to(device),
            position=split.position.to(device),
        )

    def _is_bfloat16(self) -> bool:
        """Whether the weight, and some rows of each split, are numbers of bfloat16."""
        tried = [self.weight]
        for split in self.splits.values():
            n_rows = len(split.features)
            tried.append(split.features[:: max(1, n_rows // TRIED_ROWS)])
        return all(torch.equal(values, values.bfloat16().float()) for values in tried)


def ensure_features(
    cell: Cell,
    progress: Progress | None = None,
    warn: Callable[[str], None] = warnings.warn,
    *,
    checked: bool = False,
) -> Path:
    """Return the folder of a cell's features in the cache, computing them if they aren't there.

    Args:
        cell: names model, dataset and evaluation.
        progress: called with (what, done, total).
        warn: called with a line when stored features were damaged and are computed again.
        checked: their content has just been read through; only sizes are compared then.

    Raises:
        StorageError: the cache can't be written.
        UnavailableError: weights or data can't be had.
        InputError: the data can't be used, or ``QPABENCH_FEATURES_BYTES`` isn't a number.
    """
    told = progress or (lambda what, done, total: None)
    allowed = features_bytes()
    folder = published(
        f"{FEATURES}/{features_key(cell)}",
        lambda work: write_features(cell, work, told),
        warn,
        thorough=not checked,
        resumes=True,
    )
    with suppress(OSError):  # a cache that can't be written serves all the same
        make_room(FEATURES, allowed, folder)
    return folder


def open_features(folder: Path) -> Features:
    """Memory-map a folder of features; nothing is read until it is used."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    bias_file = folder / "head_bias.npy"
    splits = {}
    for name in meta["splits"]:
        parts: dict[str, Any] = {
            part: _map(folder / f"{name}_{part}.npy")
            for part in ("features", "labels", "mask", "row", "position")
        }
        nll_file = folder / f"{name}_base_nll.npy"
        splits[name] = Split(
            **parts,
            base_nll=_map(nll_file) if nll_file.exists() else None,
            ids=_map(folder / f"{name}_ids.npy"),
            attention=_map(folder / f"{name}_attention.npy"),
        )
    return Features(
        weight=_map(folder / "head.npy"),
        bias=_map(bias_file) if bias_file.exists() else None,
        softcap=meta["softcap"],
        splits=splits,
        meta=meta,
    )


def _map(path: Path) -> Tensor:
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
