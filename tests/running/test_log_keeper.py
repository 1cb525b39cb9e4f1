"""The log of a cell: whole where it is short, its two ends where it is long."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from qpabench.running import log_keeper
from qpabench.running.log_keeper import HEAD_BYTES, READ_BYTES, TAIL_BYTES, keep


def kept(content: bytes, path: Path) -> bytes | None:
    source, sink = os.pipe()

    def write() -> None:
        with os.fdopen(sink, "wb") as stream:
            stream.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    keep(source, path)
    writer.join()
    os.close(source)
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("size", [1, READ_BYTES, HEAD_BYTES + 1, HEAD_BYTES + TAIL_BYTES])
def test_what_fits_is_kept_whole(size: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    assert kept(content, tmp_path / "log") == content


def test_of_more_both_ends_are_kept_and_the_rest_is_counted(tmp_path: Path) -> None:
    content = os.urandom(10 * (HEAD_BYTES + TAIL_BYTES))
    log = kept(content, tmp_path / "log")
    assert log is not None
    assert log.startswith(content[:HEAD_BYTES])
    rest = log[HEAD_BYTES:]
    said, tail = rest[: rest.index(b"]\n") + 2], rest[rest.index(b"]\n") + 2 :]
    assert content.endswith(tail)
    assert TAIL_BYTES <= len(tail) < TAIL_BYTES + READ_BYTES
    assert said == f"\n[{len(content) - HEAD_BYTES - len(tail)} bytes cut]\n".encode()


def test_nothing_printed_leaves_no_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("of an earlier run")
    assert kept(b"", tmp_path / "log") is None


def test_it_needs_nothing_but_python(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", str(Path(log_keeper.__file__)), str(tmp_path / "log")]
    subprocess.run(command, input=b"loud", check=True)
    assert (tmp_path / "log").read_bytes() == b"loud"
