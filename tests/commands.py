"""The command line, run in this process or in another."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from qpabench.cli import main

PYTHON = [sys.executable, "-c", "from qpabench.cli import main; main()"]


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def in_process(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> Done:
    """Run ``qpabench`` in this process, as its script does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["qpabench", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
    captured = capsys.readouterr()
    return Done(int(ended.value.code or 0), captured.out, captured.err)


def environment(cache: Path, *sites: Path) -> dict[str, str]:
    """Return variables for another process: a cache, one thread, and folders with plugins."""
    given = os.environ.get("PYTHONPATH")  # the code under test may come from there
    paths = [*(str(site) for site in sites), *([given] if given else [])]
    return {
        **os.environ,
        "QPABENCH_CACHE": str(cache),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(paths),
    }


def in_subprocess(arguments: Sequence[str], env: dict[str, str], folder: Path, timeout: float = 100) -> Done:
    """Run ``qpabench`` in a process of its own."""
    done = subprocess.run(
        [*PYTHON, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=env,
        cwd=folder,
        timeout=timeout,
    )
    return Done(done.returncode, done.stdout, done.stderr)
