"""A scaffolded plugin works as it is written."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from qpabench import InputError
from qpabench.testing.scaffold import scaffold


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """Scaffold one."""
    scaffold("my-simulator", tmp_path)
    return tmp_path / "qpabench-my-simulator"


def test_it_writes_a_project_an_entry_a_backend_and_a_test(tmp_path: Path) -> None:
    written = scaffold("mine", tmp_path)
    assert [str(path.relative_to(tmp_path / "qpabench-mine")) for path in written] == [
        "pyproject.toml",
        "qpabench_mine/__init__.py",
        "qpabench_mine/backend.py",
        "tests/test_conformance.py",
    ]


def test_the_project_names_its_entry_point(plugin: Path) -> None:
    project = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["qpabench"] == {"my-simulator": "qpabench_my_simulator"}


def test_its_backend_is_about_twenty_lines(plugin: Path) -> None:
    source = (plugin / "qpabench_my_simulator" / "backend.py").read_text().splitlines()
    assert len([line for line in source if line.strip()]) <= 24


def test_its_own_tests_pass(plugin: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "tests"],
        cwd=plugin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout
    assert "skipped" not in done.stdout


def test_listing_it_does_not_import_torch(plugin: Path) -> None:
    code = "import sys, qpabench_my_simulator; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=plugin, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["", "My", "a_b", "a--b", "-a", "1a", "../up", "a" * 51, "a\n"])
def test_a_wrong_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected lower case letters"):
        scaffold(name, tmp_path)


def test_an_existing_folder_is_left_alone(plugin: Path) -> None:
    (plugin / "pyproject.toml").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        scaffold("my-simulator", plugin.parent)
    assert (plugin / "pyproject.toml").read_text() == "mine"
