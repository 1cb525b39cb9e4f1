"""``qpabench --help`` and ``qpabench list``: light, quick, with provenance."""

import json
import os
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from commands import PYTHON
from fake_plugins import install
from typer.testing import CliRunner

from qpabench.cli import app

#: the best of several runs counts, because other processes hold the caches and the processor, too
START_SECONDS = 0.5
RUNS = 12
HEAVY = (
    "torch",
    "transformers",
    "numpy",
    "pandas",
    "matplotlib",
    "pennylane",
    "qiskit",
    "torchquantum",
    "scipy",
)
LIGHT = ("--help", "list", "plan --help", "run --help")


def listed(*arguments: str) -> list[dict[str, str]]:
    result = CliRunner().invoke(app, ["list", "--json", *arguments])
    assert result.exit_code == 0, result.output
    found: list[dict[str, str]] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("command", LIGHT)
def test_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys, atexit\n"
        f"found = lambda: sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "atexit.register(lambda: print('HEAVY', found(), file=sys.stderr))\n"
        f"sys.argv = ['qpabench', *{command.split()!r}]\n"
        "from qpabench.cli import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "HEAVY []"


def child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("command", ["--help", "list"])
def test_starts_quickly(command: str) -> None:
    """In processor time, which on an idle machine is the time one waits."""
    best = float("inf")
    for _ in range(RUNS):
        before = child_seconds()
        subprocess.run([*PYTHON, command], capture_output=True, check=True)
        best = min(best, child_seconds() - before)
        if best < START_SECONDS:
            return
    pytest.fail(f"took {best:.2f} s at best, expected less than {START_SECONDS} s")


def test_every_row_says_who_brought_it() -> None:
    rows = {(row["kind"], row["name"]): row for row in listed()}
    native = rows["backend", "native"]
    assert (native["distribution"], native["version"]) == ("qpabench", version("qpabench"))


def test_a_kind_is_listed_alone() -> None:
    assert {row["kind"] for row in listed("ansatze")} == {"ansatz"}


def test_a_kind_may_be_named_in_the_singular() -> None:
    assert listed("ansatz") == listed("ansatze")


def test_a_plugin_of_another_distribution_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        "import qpabench\n@qpabench.hookimpl\ndef qpabench_backends():\n"
        "    yield qpabench.BackendEntry(name='mine', summary='s', load='a:b')\n"
    )
    install(tmp_path, "acme-listed", source)
    monkeypatch.syspath_prepend(str(tmp_path))
    (row,) = [row for row in listed("backends") if row["name"] == "mine"]
    assert (row["distribution"], row["version"]) == ("acme-listed", "1.2.3")


def test_a_broken_plugin_is_a_row_and_a_warning(tmp_path: Path) -> None:
    install(tmp_path, "acme-broken", "1 / 0\n")
    done = subprocess.run(
        [*PYTHON, "list", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "QPABENCH_STRICT_PLUGINS": ""},
    )
    (row,) = [row for row in json.loads(done.stdout) if row["kind"] == "plugin"]
    assert row["summary"] == "BROKEN: ZeroDivisionError: division by zero"
    (warning,) = done.stderr.splitlines()
    assert warning.startswith("warning: plugin 'acme-broken-plugin' of acme-broken 1.2.3 is broken")


def test_an_unknown_kind_is_offered_the_nearest() -> None:
    done = subprocess.run(
        [*PYTHON, "list", "backend-s"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: list: found kind 'backend-s'; did you mean 'backends'?\n"
