"""A suite whose components need no hub asks nobody: no process of a run opens a connection."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment, in_subprocess
from written_suites import write_suite

#: found by every Python process that has its folder on the path; a connection ends it with the code 97
GUARD = """
import os
import sys


def hear(event, arguments):
    inet = event == "socket.connect" and isinstance(arguments[1], tuple)  # else a pipe
    if inet or event in ("socket.getaddrinfo", "socket.gethostbyname"):
        os.write(2, f"network: {event} {arguments[1:]}\\n".encode())
        os._exit(97)


sys.addaudithook(hear)
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(GUARD)
    before = [Path(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    found = environment(tmp_path / "cache", site, *before)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        found.pop(name, None)
    return found


def test_the_guard_hears_a_connection(env: dict[str, str]) -> None:
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    assert done.returncode == 97


@pytest.mark.parametrize("option", [[], ["--offline"]], ids=["without", "with-offline"])
def test_no_process_opens_a_connection(option: list[str], env: dict[str, str], tmp_path: Path) -> None:
    write_suite(tmp_path)
    done = in_subprocess(["run", "suite.toml", "--out", "run", *option], env, tmp_path, timeout=300)
    assert (done.code, "network:" in done.err) == (0, False), done.err
    assert "1 ok" in done.out
    assert not any("network:" in log.read_text() for log in (tmp_path / "run" / "logs").glob("*.log"))
