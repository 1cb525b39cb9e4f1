"""Rows, blocks and windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpabench.datasets.options import TextOptions
from qpabench.errors import InputError
from qpabench.models.tiny import byte_tokenizer
from qpabench.training.rows import evenly_spaced, make_rows, make_windows

PAD = 256


def options(**changes: object) -> TextOptions:
    return TextOptions(**{"train": "a", "test": "b", "max_length": 8, **changes})  # type: ignore[arg-type]


def rows(lines: list[str], wanted: int | None = None, **changes: object) -> tuple[np.ndarray, np.ndarray]:
    made = make_rows(byte_tokenizer(), PAD, lines, options(**changes), wanted)
    return made.ids, made.mask


def test_a_line_is_padded_on_the_right() -> None:
    ids, mask = rows(["abc"])
    assert (ids[0, 3:] == PAD).all()
    assert mask.tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]]


def test_a_long_line_is_cut() -> None:
    ids, mask = rows(["abcdefghijk"])
    assert (ids != PAD).all()
    assert mask.all()


def test_a_blank_line_is_a_row_of_padding() -> None:
    ids, mask = rows(["", "a"])
    assert (ids[0] == PAD).all()
    assert not mask[0].any()


def test_a_line_keeps_its_line_end_when_asked_unless_blank() -> None:
    _, mask = rows(["ab", "", " "], line_end=True)
    assert mask.sum(1).tolist() == [3, 0, 1]


def test_blocks_are_full_rows_of_one_stream() -> None:
    ids, mask = rows(["abcde", "fghij", "klmno"], rows="blocks")
    stream = rows(["abcde\nfghij\nklmno"], max_length=17)[0][0]
    assert mask.all()
    assert ids.reshape(-1).tolist() == stream[:16].tolist()


def test_a_text_shorter_than_a_block_is_refused() -> None:
    with pytest.raises(InputError, match="gives no row of 8 tokens"):
        rows(["abc"], rows="blocks")


def test_chosen_rows_are_spread_over_the_split() -> None:
    assert evenly_spaced(10, 4) == [0, 2, 5, 7]


def test_more_rows_than_there_are_keeps_all() -> None:
    assert evenly_spaced(3, 10) == [0, 1, 2]


@given(length=st.integers(2, 200), context=st.integers(2, 40), data=st.data())
def test_windows_score_every_token_but_the_first_exactly_once(
    length: int, context: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, context - 1))
    windows = make_windows(list(range(length)), PAD + length, context, stride)
    scored = [
        int(token)
        for ids, mask, first in zip(windows.ids, windows.mask, windows.first_scored, strict=True)
        for token in ids[first:][mask[first:] == 1]
    ]
    assert scored == list(range(1, length))


def test_a_stride_that_leaves_gaps_is_refused() -> None:
    with pytest.raises(InputError, match=r"evaluate\.stride: found 8, expected less than the context of 8"):
        make_windows(list(range(50)), PAD, 8, 8)


def test_a_stream_of_one_token_is_refused() -> None:
    with pytest.raises(InputError, match="fewer than two tokens"):
        make_windows([1], PAD, 8, 4)
