"""Cuts text into rows of token ids, as the released code does or as contiguous blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qpabench.errors import InputError
from qpabench.hooks.entries import DatasetOptions


@dataclass(frozen=True)
class Rows:
    """Token ids of one split.

    Args:
        ids: (rows, tokens), padded on the right.
        mask: 1 where text stands, 0 where padding does.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]


def evenly_spaced(total: int, wanted: int | None) -> list[int]:
    """Choose rows spread over the whole split: index i * total // wanted.

    Args:
        total: how many there are.
        wanted: how many to keep; None or more than there are keeps all.
    """
    if wanted is None or wanted >= total:
        return list(range(total))
    return [index * total // wanted for index in range(wanted)]


def chosen_lines(lines: Sequence[str], options: DatasetOptions, wanted: int | None) -> list[str]:
    """Return the lines a split is measured on; blocks take the whole split."""
    if options.rows == "blocks":
        return list(lines)
    chosen = [lines[index] for index in evenly_spaced(len(lines), wanted)]
    return [line + "\n" if line.strip() else line for line in chosen] if options.line_end else chosen


def make_rows(
    tokenizer: Any, pad_token_id: int, lines: Sequence[str], options: DatasetOptions, wanted: int | None
) -> Rows:
    """Encode one split.

    Args:
        tokenizer: a Hugging Face tokenizer.
        pad_token_id: fills a row on the right.
        lines: the split.
        options: ``rows = "lines"``: one line, one row, blank lines kept, truncated to ``max_length``;
            ``"blocks"``: all lines joined with a line end, cut into full rows of ``max_length``.
        wanted: rows kept, evenly spaced.

    Raises:
        InputError: no row comes out.

    Source: the released code's lines of 512 tokens, padding appended.
    """
    length = options.max_length
    if options.rows == "lines":
        texts = chosen_lines(lines, options, wanted)
        encoded = [list(tokenizer(text)["input_ids"])[:length] for text in texts]
    else:
        stream = encode_stream(tokenizer, lines)
        blocks = [stream[start : start + length] for start in range(0, len(stream) - length + 1, length)]
        encoded = [list(blocks[index]) for index in evenly_spaced(len(blocks), wanted)]
    if not encoded:
        raise InputError(
            f"dataset: a split of {len(lines)} lines gives no row of {length} tokens; "
            "expected at least one; use a longer text or a smaller max_length"
        )
    ids = np.full((len(encoded), length), pad_token_id, dtype=np.int64)
    mask = np.zeros((len(encoded), length), dtype=np.int64)
    for index, tokens in enumerate(encoded):
        ids[index, : len(tokens)] = tokens
        mask[index, : len(tokens)] = 1
    return Rows(ids, mask)


def encode_stream(tokenizer: Any, lines: Sequence[str]) -> list[int]:
    """Encode lines joined by line ends as one stream of token ids."""
    return list(tokenizer("\n".join(lines), verbose=False)["input_ids"])


@dataclass(frozen=True)
class Windows:
    """A contiguous stream as overlapping windows; each token is scored once.

    Args:
        ids: (windows, context), padded on the right in the last one.
        mask: as in ``Rows``.
        first_scored: per window, the first label position that is scored.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    first_scored: NDArray[np.int64]


def make_windows(stream: Sequence[int], pad_token_id: int, context: int, stride: int) -> Windows:
    """Cut a stream into windows of ``context`` tokens that advance by ``stride``.

    Args:
        stream: token ids; every one but the first is scored exactly once.
        pad_token_id: fills the last window.
        context: tokens a window, at least 2.
        stride: tokens by which windows advance, at most ``context - 1``.

    Raises:
        InputError: the stream has fewer than two tokens, or the stride leaves gaps.
    """
    if len(stream) < 2:
        raise InputError("strided perplexity: found fewer than two tokens of test text, expected more")
    if stride >= context:
        raise InputError(
            f"evaluate.stride: found {stride}, expected less than the context of {context} tokens"
        )
    starts = [0]
    while starts[-1] + context < len(stream):
        starts.append(starts[-1] + stride)
    ids = np.full((len(starts), context), pad_token_id, dtype=np.int64)
    mask = np.zeros((len(starts), context), dtype=np.int64)
    first = np.ones(len(starts), dtype=np.int64)
    done = 1
    for index, start in enumerate(starts):
        tokens = stream[start : start + context]
        ids[index, : len(tokens)] = tokens
        mask[index, : len(tokens)] = 1
        first[index] = done - start
        done = start + len(tokens)
    return Windows(ids, mask, first)
