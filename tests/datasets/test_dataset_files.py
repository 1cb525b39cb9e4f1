"""Lines from files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qpabench.datasets.files import read, read_lines, split_files
from qpabench.errors import InputError


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"a\n\n = b = \n", ("a", "", " = b = ")),
        (b"a\n\n", ("a", "")),
        (b"a", ("a",)),
        (b"a\r\nb\r\n", ("a", "b")),
        (b"\xef\xbb\xbfa\n", ("a",)),
        ("a\u2028b\x0cc\n".encode(), ("a\u2028b\x0cc",)),
        (b"", ()),
    ],
)
def test_lines_keep_their_order_and_blanks(tmp_path, data, lines):
    assert read_lines(written(tmp_path / "a.txt", data)) == lines


def test_file_that_is_not_utf8_is_named_with_its_line(tmp_path):
    with pytest.raises(InputError, match=r"a\.txt: line 2 is not UTF-8 \(byte 0xff at 2\)"):
        read_lines(written(tmp_path / "a.txt", b"a\n\xff\n"))


def test_absent_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_lines(tmp_path / "nowhere.txt")


def test_parquet_rows_lose_their_line_end_only(tmp_path):
    pq.write_table(pa.table({"text": ["", " = a = \n", None]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ("", " = a = ", "")


def test_parquet_with_one_text_column_may_call_it_otherwise(tmp_path):
    pq.write_table(pa.table({"id": [1], "sentence": ["a"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ("a",)


def test_parquet_without_the_text_column_is_an_input_error(tmp_path):
    pq.write_table(pa.table({"x": ["a"], "y": ["b"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="no text column 'text'"):
        read(tmp_path / "a.parquet")


def test_damaged_parquet_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="not a readable parquet file"):
        read(written(tmp_path / "a.parquet", b"PAR1 no"))


@pytest.mark.parametrize(
    "names",
    [
        ("train.txt", "valid.txt", "test.txt"),
        ("wiki.train.txt", "wiki.valid.txt", "wiki.test.txt"),
        ("train-00000-of-00001.txt", "validation-00000-of-00001.txt", "test-00000-of-00001.txt"),
        ("train/0000.txt", "validation/0000.txt", "test/0000.txt"),
    ],
)
def test_splits_are_found_by_their_names(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a\n")
    found = split_files(tmp_path, (".parquet", ".txt"))
    assert [found[split] for split in ("train", "validation", "test")] == [
        [tmp_path / name] for name in names
    ]
