"""A path that no file can have is refused while the suite is read, with its key."""

from pathlib import Path

import pytest
from commands import in_process
from written_suites import DIRECT, write_suite

ODD = {
    "null character": ("a\\u0000b", "null character"),
    "too long": ("a" * 5000, "too long"),
    "user unknown": ("~nobody-of-that-name/x", "home directory"),
}
EACH = pytest.mark.parametrize(("path", "why"), ODD.values(), ids=[name.replace(" ", "-") for name in ODD])


@EACH
def test_odd_path_of_a_model(path: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(tmp_path, DIRECT + f'model = {{ name = "gpt2", path = "{path}" }}\n')
    done = in_process(["plan", str(suite)], capsys)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "model.path: found" in done.err
    assert why in done.err


@EACH
def test_odd_path_of_a_dataset(
    path: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(tmp_path, DIRECT + f'dataset = {{ name = "text", train = "{path}", test = "x" }}\n')
    done = in_process(["plan", str(suite)], capsys)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "dataset.train: found" in done.err
    assert why in done.err


def test_device_without_end_is_not_read_whole(capsys: pytest.CaptureFixture[str]) -> None:
    done = in_process(["plan", "/dev/zero"], capsys)
    assert done.code == 2
    assert "/dev/zero: found more than" in done.err
