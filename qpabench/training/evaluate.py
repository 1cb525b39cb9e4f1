"""Perplexities of a trained target, all from stored features; every figure beside its untrained base."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qpabench.devices import gathered
from qpabench.errors import NumericalError
from qpabench.suite.options import EvaluateOptions
from qpabench.targets.target import Target
from qpabench.training.features import Features, Split
from qpabench.training.head import token_nll

TOKENS_PER_PASS = 1024
OVERFLOW_NATS = 700.0  # exp of more isn't finite; such a perplexity is left out, its NLL stays


@torch.no_grad()
def split_nll(
    features: Features,
    split: Split,
    target: Target,
    tensors: Callable[[], Mapping[str, Tensor]],
    rows_per_draw: int | None,
) -> NDArray[np.float32]:
    """Return the NLL in nats at every scored position of a split.

    Args:
        features: the frozen output layer.
        split: what is measured.
        target: the adapted layer.
        tensors: gives the target's tensors.
        rows_per_draw: rows after which ``tensors`` is called again, as the released code does with every
            batch; None where it gives the same each time.

    Raises:
        NumericalError: an NLL isn't finite; the message says how many.
    """
    bounds = np.searchsorted(split.row.numpy(), np.arange(0, split.n_rows, rows_per_draw or split.n_rows))
    device = features.weight.device
    measured = torch.empty(len(split.labels), device=device)
    for begin, end in zip(bounds, [*bounds[1:], len(split.labels)], strict=True):
        current = tensors()
        for start in range(begin, end, TOKENS_PER_PASS):
            part = slice(start, min(start + TOKENS_PER_PASS, end))
            factors = features.factors(target, split, part, current, None)
            labels = gathered(split.labels, part, device)
            measured[part] = token_nll(factors, features.weight, labels, features.bias, features.softcap)
    result: NDArray[np.float32] = measured.cpu().numpy()
    lost = int((~np.isfinite(result)).sum())
    if lost:
        raise NumericalError(
            f"NLL of {lost} of {len(result)} tokens isn't finite after training; expected finite numbers; "
            "use a smaller learning rate"
        )
    return result


def row_perplexities(nll: NDArray[Any], split: Split, batch_size: int, prefix: str = "") -> dict[str, float]:
    """Return padded and masked perplexity from NLLs of padded rows.

    Args:
        nll: at every position, padding included, nats.
        split: where they stand.
        batch_size: rows whose mean loss is averaged over batches for the padded figure.
        prefix: ``base_`` for the untrained model.

    Source: padded is exp(mean of the batch means) over all positions, as the released code scores; masked
    is the token-weighted mean over text alone.
    """
    values = nll.astype(np.float64)
    batch = split.row.numpy() // batch_size
    means = np.bincount(batch, weights=values) / np.bincount(batch)
    mask = split.mask.numpy()
    found = {"perplexity_padded": float(means.mean())}
    if mask.any():
        found["perplexity_masked"] = float(values[mask].mean())
    return {prefix + name: math.exp(nats) for name, nats in found.items() if nats < OVERFLOW_NATS}


def stream_perplexities(nll: NDArray[Any], meta: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return strided and word perplexity and bits per byte from NLLs of a contiguous stream.

    Args:
        nll: of every token but the first, nats.
        meta: ``words`` (separated by white space) and ``bytes`` (UTF-8) of the original text.
        prefix: ``base_`` for the untrained model.
    """
    total = float(nll.astype(np.float64).sum())
    found = {"perplexity_strided": total / len(nll), "perplexity_word": total / meta["words"]}
    metrics = {prefix + name: math.exp(nats) for name, nats in found.items() if nats < OVERFLOW_NATS}
    return {**metrics, prefix + "bits_per_byte": total / math.log(2) / meta["bytes"]}


def measure(
    features: Features,
    target: Target,
    tensors: Callable[[], Mapping[str, Tensor]],
    options: EvaluateOptions,
    *,
    redraws: bool = True,
) -> tuple[dict[str, float], dict[str, NDArray[Any]]]:
    """Measure a target on every evaluated split, and the untrained model beside it.

    Args:
        features: of the cell.
        target: the adapted layer.
        tensors: what the generator gives.
        options: batch size of the padded figure.
        redraws: whether ``tensors`` gives others each time (basis strings redrawn, shots).

    Returns:
        Metrics, and the series of text NLLs: ``test_nll``, ``test_row``, ``base_test_nll``
        (and ``stream_nll``, ``base_stream_nll``).
    """
    metrics: dict[str, float] = {}
    series: dict[str, NDArray[Any]] = {}
    rows_per_draw = options.batch_size if redraws else None
    test = features.splits["test"]
    nll = split_nll(features, test, target, tensors, rows_per_draw)
    assert test.base_nll is not None
    base = test.base_nll.numpy()
    metrics |= row_perplexities(nll, test, options.batch_size)
    metrics |= row_perplexities(base, test, options.batch_size, "base_")
    text = test.mask.numpy()
    metrics["tokens_test"] = int(text.sum())
    metrics["padding_share_test"] = float(1 - text.mean())
    series |= {
        "test_nll": nll[text],
        "test_row": test.row.numpy()[text].astype(np.int32),
        "base_test_nll": base[text],
    }
    if "validation" in features.splits:
        validation = features.splits["validation"]
        nll = split_nll(features, validation, target, tensors, rows_per_draw)
        assert validation.base_nll is not None
        metrics |= row_perplexities(nll, validation, options.batch_size, "validation_")
        metrics |= row_perplexities(
            validation.base_nll.numpy(), validation, options.batch_size, "base_validation_"
        )
    if "stream" in features.splits:
        stream = features.splits["stream"]
        nll = split_nll(features, stream, target, tensors, rows_per_draw)
        assert stream.base_nll is not None
        metrics |= stream_perplexities(nll, features.meta)
        metrics |= stream_perplexities(stream.base_nll.numpy(), features.meta, "base_")
        series |= {"stream_nll": nll, "base_stream_nll": stream.base_nll.numpy()}
    return metrics, series
