"""Computes what enters a frozen ``lm_head``, split by split, and goes on where a process was killed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qpabench.datasets.splits import Splits
from qpabench.errors import InputError
from qpabench.hooks.entries import DatasetOptions
from qpabench.models.model import LoadedModel
from qpabench.suite.cell import Cell
from qpabench.suite.options import EvaluateOptions
from qpabench.targets.target import Factors
from qpabench.training.head import token_nll
from qpabench.training.rows import Rows, chosen_lines, encode_stream, make_rows, make_windows

TOKENS_PER_BATCH = 2048
SECONDS_BETWEEN_NOTES = 30.0
Progress = Callable[[str, int, int], None]


@dataclass
class Notes:
    """How many distinct rows of each split are on the disk, noted in the folder while it is filled.

    A row's numbers are on the disk before it is noted.

    Args:
        path: of the note, which isn't there at first.
        seconds: that earlier processes took.
        done: rows by split.
    """

    path: Path
    seconds: float = 0.0
    done: dict[str, int] = field(default_factory=dict)
    _started: float = field(default_factory=time.perf_counter)
    _noted: float = field(default_factory=time.perf_counter)

    @classmethod
    def found(cls, work: Path) -> Notes:
        """Read the note of an earlier process; one that can't be read counts for nothing."""
        path = work / "progress.json"
        try:
            content = json.loads(path.read_text(encoding="ascii"))
            done = {str(name): int(rows) for name, rows in content["done"].items()}
            return cls(path, float(content["seconds"]), done)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls(path)

    def total_seconds(self) -> float:
        """Return what all processes took together."""
        return self.seconds + time.perf_counter() - self._started

    def note(self, name: str, rows: int, written: list[np.memmap[Any, Any]]) -> None:
        """Note progress, at most every half minute.

        Args:
            name: of the split.
            rows: distinct ones that are done.
            written: what they were written to.
        """
        if time.perf_counter() - self._noted < SECONDS_BETWEEN_NOTES:
            return
        for array in written:
            array.flush()
        self.done[name] = rows
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps({"done": self.done, "seconds": self.total_seconds()}), encoding="ascii")
        draft.replace(self.path)
        self._noted = time.perf_counter()


def write_features(cell: Cell, work: Path, progress: Progress) -> None:
    """Fill a folder with the features of a cell.

    Args:
        cell: names model, dataset and evaluation.
        work: the folder: empty, or with what a process left that was killed while it filled it.
        progress: called with (what, done, total).

    Raises:
        UnavailableError: weights or data can't be had.
        InputError: the data can't be used.
    """
    notes = Notes.found(work)
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
    meta = _write_all(model, splits, options, cell.evaluate, notes, progress)
    meta["seconds"] = notes.total_seconds()
    notes.path.unlink(missing_ok=True)
    (work / "meta.json").write_text(json.dumps(meta, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_all(
    model: LoadedModel,
    splits: Splits,
    options: DatasetOptions,
    evaluate: EvaluateOptions,
    notes: Notes,
    progress: Progress,
) -> dict[str, Any]:
    work = notes.path.parent
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
        _write_split(model, rows, first, notes, name, progress, keep_padding=True, base=name != "train")
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
            notes,
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


def _created(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Map a new float32 array, and take its whole size on the disk: writing must not find the disk full."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _found(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, Any] | None:
    """Map the array that an earlier process left; None where it isn't one of this kind."""
    try:
        array = np.lib.format.open_memmap(path, mode="r+")
    except (OSError, ValueError):
        return None
    return array if array.shape == shape and array.dtype == np.dtype(np.float32) else None


def _arrays(
    shapes: Mapping[Path, tuple[int, ...]], *, goes_on: bool
) -> tuple[list[np.memmap[Any, Any]], bool]:
    """Return an array for each file, and whether they are those that an earlier process left."""
    if goes_on:
        left = [array for path, shape in shapes.items() if (array := _found(path, shape)) is not None]
        if len(left) == len(shapes):
            return left, True
    return [_created(path, shape) for path, shape in shapes.items()], False


@torch.no_grad()
def _write_split(
    model: LoadedModel,
    rows: Rows,
    first_scored: NDArray[np.int64],
    notes: Notes,
    name: str,
    progress: Progress,
    *,
    keep_padding: bool,
    base: bool,
) -> None:
    """Run the backbone on each distinct row once and write its scored positions."""
    head, work = model.head, notes.path.parent
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
    shapes: dict[Path, tuple[int, ...]] = {work / f"{name}_features.npy": (total, head.in_features)}
    if base:
        shapes[work / f"{name}_base_nll.npy"] = (total,)
    written, left = _arrays(shapes, goes_on=name in notes.done)
    done = notes.done[name] if left else 0
    features, nll = written[0], written[1] if base else None
    _, first_index, inverse = np.unique(
        np.concatenate([rows.ids, rows.mask], axis=1), axis=0, return_index=True, return_inverse=True
    )
    twins: list[list[int]] = [[] for _ in first_index]
    for index, distinct in enumerate(inverse.reshape(-1)):
        twins[distinct].append(index)
    per_batch = max(1, TOKENS_PER_BATCH // length)
    for begin in range(done, len(twins), per_batch):
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
                if nll is None:
                    continue
                if index == same[0] or counts[index] != counts[same[0]]:
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
                else:
                    nll[here] = nll[int(starts[same[0]]) : int(starts[same[0] + 1])]
        notes.note(name, min(begin + per_batch, len(twins)), written)
    for array in written:
        array.flush()
    notes.done[name] = len(twins)
    progress(f"features of {name}", len(twins), len(twins))
