"""The cache folder."""

import pytest

from qpabench.cache import cache_dir, file_hash, published
from qpabench.errors import UnavailableError


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
    with pytest.raises(UnavailableError, match="QPABENCH_CACHE"):
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
