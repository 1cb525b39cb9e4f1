"""The cache folder."""

import os

import pytest

from qpabench.cache import cache_dir, file_hash, published
from qpabench.errors import StorageError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "cache"))


def test_cache_folder_is_the_one_chosen(tmp_path):
    assert cache_dir() == tmp_path / "cache"


def test_folder_is_built_once():
    built = []
    for _ in range(2):
        published("a/b", built.append)
    assert len(built) == 1


def test_failed_build_leaves_nothing_to_be_found():
    def fail(folder):
        (folder / "half").write_text("")
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        published("a", fail)
    assert [path.name for path in cache_dir().iterdir() if path.is_dir()] == []


def test_cache_that_cannot_be_written_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="QPABENCH_CACHE"):
        published("a", lambda folder: None)


@pytest.mark.parametrize("size_bytes", [10, 2 << 20])
def test_hash_follows_the_content(tmp_path, size_bytes):
    file = tmp_path / "file"
    file.write_bytes(b"a" * size_bytes)
    before = file_hash(file)
    file.write_bytes(b"a" * size_bytes + b"b")
    assert file_hash(file) != before


def test_unwritable_cache_does_not_stop_a_hash(tmp_path, monkeypatch):
    (tmp_path / "big").write_bytes(b"a" * (2 << 20))
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "big"))
    assert len(file_hash(tmp_path / "big")) == 64


def test_what_a_killed_builder_left_is_swept():
    left = cache_dir() / "a" / "b.0123abcd.part"
    left.mkdir(parents=True)
    published("a/b", lambda folder: None)
    assert not left.exists()


def test_what_a_killed_builder_left_is_given_to_one_that_goes_on():
    for token, text in (("0", "older"), ("1", "newer")):
        left = cache_dir() / f"a.{token}.part"
        left.mkdir(parents=True)
        (left / "file").write_text(text)
        os.utime(left, (int(token), int(token)))
    folder = published("a", lambda folder: None, resumes=True)
    assert (folder / "file").read_text() == "newer"
    assert [path.name for path in cache_dir().iterdir() if path.is_dir()] == ["a"]


def _fill(folder):
    (folder / "a.npy").write_bytes(b"numbers")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "a.npy").write_bytes(b"numbers, cut"),
        lambda folder: (folder / "a.npy").write_bytes(b"numbeRs"),
        lambda folder: (folder / "a.npy").unlink(),
        lambda folder: (folder / "sums.json").unlink(),
        lambda folder: (folder / "sums.json").write_bytes(b"{"),
    ],
    ids=["longer", "flipped", "deleted", "no-sums", "damaged-sums"],
)
def test_damaged_folder_is_named_and_built_again(damage):
    damage(published("a", _fill))
    told = []
    folder = published("a", _fill, told.append)
    assert (folder / "a.npy").read_bytes() == b"numbers"
    assert len(told) == 1
    assert str(folder) in told[0]


def test_content_is_not_read_where_it_was_just_checked():
    (published("a", _fill) / "a.npy").write_bytes(b"numbeRs")
    assert (published("a", _fill, thorough=False) / "a.npy").read_bytes() == b"numbeRs"


def test_damaged_note_of_a_hash_is_not_believed(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"a" * (2 << 20))
    right = file_hash(file)
    (note,) = (cache_dir() / "hashes").iterdir()
    note.write_text("0" * 64 + note.read_text()[64:])
    assert file_hash(file) == right
