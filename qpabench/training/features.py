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
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qpabench.cache import published
from qpabench.datasets.splits import Splits
from qpabench.devices import gathered
from qpabench.errors import InputError
from qpabench.hooks.entries import DatasetOptions, LayerShape
from qpabench.models.model import LoadedModel
from qpabench.suite.cell import Cell
from qpabench.suite.options import EvaluateOptions
from qpabench.targets.target import Factors, Target
from qpabench.training.head import token_nll
from qpabench.training.kept_loss import KeptFactors, KeptLogits
from qpabench.training.keys import features_key
from qpabench.training.rows import Rows, chosen_lines, encode_stream, make_rows, make_windows

TOKENS_PER_BATCH = 2048
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

        ``autograd``, ``one-pass`` or ``kept-logits`` on the CPU; elsewhere ``online``, or ``online-bfloat16``
        where the weight is kept in that.
        """
        if self.softcap is not None:
            return "autograd"
        if self.weight.device.type != "cpu":
            return "online-bfloat16" if self.weight.dtype == torch.bfloat16 else "online"
        return "kept-logits" if all(split.kept for split in self.splits.values()) else "one-pass"

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
        if factors.low_rank is None:
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
        InputError: the data can't be used.
    """
    told = progress or (lambda what, done, total: None)
    return published(
        f"features/{features_key(cell)}", lambda work: _build(cell, work, told), warn, thorough=not checked
    )


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


def _build(cell: Cell, work: Path, progress: Progress) -> None:
    started = time.perf_counter()
    progress("loading the model", 0, 1)
    model: LoadedModel = cell.model.entry.component()(cell.model.options)
    splits: Splits = cell.dataset.entry.component()(cell.dataset.options)
    options = cell.dataset.options
    assert isinstance(options, DatasetOptions)
    longest = max(options.max_length, cell.evaluate.context if cell.evaluate.strided else 0)
    if longest > model.max_positions:
        raise InputError(
            f"dataset.max_length or evaluate.context: found {longest}, "
            f"expected at most {model.max_positions} (the longest input of {cell.model.name})"
        )
    meta = _write_all(model, splits, options, cell.evaluate, work, progress)
    meta["seconds"] = time.perf_counter() - started
    (work / "meta.json").write_text(json.dumps(meta, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_all(
    model: LoadedModel,
    splits: Splits,
    options: DatasetOptions,
    evaluate: EvaluateOptions,
    work: Path,
    progress: Progress,
) -> dict[str, Any]:
    head = model.head
    np.save(work / "head.npy", head.weight.float().cpu().numpy())
    if head.bias is not None:
        np.save(work / "head_bias.npy", head.bias.float().cpu().numpy())
    meta: dict[str, Any] = {
        "splits": [],
        "rows": {},
        "padding_share": {},
        "softcap": model.logit_softcap,
        "tied": model.tied,
        "head_name": model.head_name,
        "pad_token_id": model.pad_token_id,
    }
    wanted = {
        "train": (splits.train, options.train_rows),
        "validation": (splits.validation, options.validation_rows),
        "test": (splits.test, options.test_rows),
    }
    for name, (lines, limit) in wanted.items():
        if name == "validation" and not lines:
            continue
        rows = make_rows(model.tokenizer, model.pad_token_id, lines, options, limit)
        first = np.ones(len(rows.ids), dtype=np.int64)
        _write_split(model, rows, first, work, name, progress, keep_padding=True, base=name != "train")
        meta["splits"].append(name)
        meta["rows"][name] = len(rows.ids)
        meta["padding_share"][name] = float(1 - rows.mask[:, 1:].mean())
    if evaluate.strided:
        measured = chosen_lines(splits.test, options, options.test_rows)
        stream = encode_stream(model.tokenizer, measured)
        windows = make_windows(stream, model.pad_token_id, evaluate.context, evaluate.stride)
        text = "\n".join(measured)
        _write_split(
            model,
            Rows(windows.ids, windows.mask),
            windows.first_scored,
            work,
            "stream",
            progress,
            keep_padding=False,
            base=True,
        )
        meta["splits"].append("stream")
        meta["rows"]["stream"] = len(windows.ids)
        meta["words"] = len(text.split())
        meta["bytes"] = len(text.encode())
    return meta


def _reserve(path: Path) -> None:
    """Take a file's whole size on the disk: writing to a map of it must not find the disk full."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


@torch.no_grad()
def _write_split(
    model: LoadedModel,
    rows: Rows,
    first_scored: NDArray[np.int64],
    work: Path,
    name: str,
    progress: Progress,
    *,
    keep_padding: bool,
    base: bool,
) -> None:
    """Run the backbone on each distinct row once and write its scored positions."""
    head = model.head
    device = head.weight.device
    weight, bias = head.weight.float(), None if head.bias is None else head.bias.float()
    length = rows.ids.shape[1]
    places = np.arange(length - 1)
    scored = places[None, :] + 1 >= first_scored[:, None]  # position t predicts label t + 1
    if not keep_padding:
        scored &= rows.mask[:, 1:] == 1
    counts = scored.sum(1)
    starts = np.concatenate([[0], np.cumsum(counts)])
    row, position = np.nonzero(scored)
    labels = rows.ids[:, 1:][scored]
    np.save(work / f"{name}_ids.npy", rows.ids)
    np.save(work / f"{name}_attention.npy", rows.mask)
    np.save(work / f"{name}_labels.npy", labels)
    np.save(work / f"{name}_mask.npy", rows.mask[:, 1:][scored] == 1)
    np.save(work / f"{name}_row.npy", row.astype(np.int64))
    np.save(work / f"{name}_position.npy", position.astype(np.int64))
    total = int(starts[-1])
    features = np.lib.format.open_memmap(
        work / f"{name}_features.npy", mode="w+", dtype=np.float32, shape=(total, head.in_features)
    )
    _reserve(work / f"{name}_features.npy")
    nll = np.zeros(total, dtype=np.float32)
    _, first_index, inverse = np.unique(
        np.concatenate([rows.ids, rows.mask], axis=1), axis=0, return_index=True, return_inverse=True
    )
    twins: list[list[int]] = [[] for _ in first_index]
    for index, distinct in enumerate(inverse.reshape(-1)):
        twins[distinct].append(index)
    per_batch = max(1, TOKENS_PER_BATCH // length)
    for begin in range(0, len(twins), per_batch):
        progress(f"features of {name}", begin, len(twins))
        group = twins[begin : begin + per_batch]
        chosen = [same[0] for same in group]
        ids = torch.from_numpy(rows.ids[chosen]).to(device)
        mask = torch.from_numpy(rows.mask[chosen]).to(device)
        hidden = model.features(ids, mask)[:, :-1].float()
        for slot, same in enumerate(group):
            for index in same:
                here = slice(int(starts[index]), int(starts[index + 1]))
                kept = hidden[slot, torch.from_numpy(scored[index]).to(device)]
                features[here] = kept.cpu().numpy()
                if (base and index == same[0]) or (base and counts[index] != counts[same[0]]):
                    nll[here] = (
                        token_nll(
                            Factors(kept),
                            weight,
                            torch.from_numpy(labels[here]).to(device),
                            bias,
                            model.logit_softcap,
                        )
                        .cpu()
                        .numpy()
                    )
                elif base:
                    nll[here] = nll[int(starts[same[0]]) : int(starts[same[0] + 1])]
    features.flush()
    if base:
        np.save(work / f"{name}_base_nll.npy", nll)
    progress(f"features of {name}", len(twins), len(twins))
