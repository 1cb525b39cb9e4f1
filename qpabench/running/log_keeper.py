"""Writes what it reads to a log of bounded size: the beginning, how much was cut, the end.

A program of its own, standard library alone: it outlives the cell whose output it keeps, however that one
dies, and a cell that prints while it holds Python's lock doesn't wait for itself.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from pathlib import Path

HEAD_BYTES = TAIL_BYTES = 2**18
READ_BYTES = 2**16


def keep(source: int, path: Path) -> None:
    """Copy a file descriptor to a log until its end; no log where nothing came.

    Args:
        source: to read from.
        path: of the log, written anew.
    """
    path.unlink(missing_ok=True)
    log, written = None, 0
    tail: deque[bytes] = deque()
    held = cut = 0
    while chunk := os.read(source, READ_BYTES):
        if log is None:
            log = path.open("wb", buffering=0)
        head = chunk[: HEAD_BYTES - written]
        log.write(head)
        written += len(head)
        tail.append(chunk[len(head) :])
        held += len(tail[-1])
        while held - len(tail[0]) >= TAIL_BYTES:
            dropped = len(tail.popleft())
            held -= dropped
            cut += dropped
    if log is not None:
        if cut:
            log.write(f"\n[{cut} bytes cut]\n".encode())
        log.write(b"".join(tail))
        log.close()


if __name__ == "__main__":
    keep(0, Path(sys.argv[1]))
