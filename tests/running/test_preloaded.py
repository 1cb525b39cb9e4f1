"""The process that workers are forked from leaves them able to use all their threads."""

from __future__ import annotations

import subprocess
import sys

WORK = """
import multiprocessing, sys
from qpabench.running.worker import settle

def multiply(connection):
    import torch
    settle(2, 0)
    square = torch.ones(2048, 2048)
    connection.send(float((square @ square).mean()))  # in torch's own threads

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qpabench.running.preloaded"])
    here, there = context.Pipe()
    process = context.Process(target=multiply, args=(there,), daemon=True)
    process.start()
    print(here.recv() if here.poll(60) else "hangs")
    process.kill()
"""


def test_a_forked_worker_multiplies_in_parallel(tmp_path) -> None:
    script = tmp_path / "forks.py"
    script.write_text(WORK, encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "2048.0\n", done.stderr
