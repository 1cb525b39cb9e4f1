"""The README is run: its suite is planned, its plugin chapter is walked through, its commands exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from commands import environment, in_process, in_subprocess

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands_with(word: str) -> list[list[str]]:
    """Return the commands of the first code block that holds a word."""
    block = next(text for language, text in BLOCKS if not language and word in text)
    return [shlex.split(line) for line in block.strip().splitlines()]


@pytest.mark.parametrize(
    ("profile", "seeds"), [([], 3), (["--profile", "laptop"], 1)], ids=["without", "laptop"]
)
def test_the_suite_of_the_readme_plans(
    profile: list[str], seeds: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "chunks.toml"
    suite.write_text(next(text for language, text in BLOCKS if language == "toml"), encoding="utf-8")
    done = in_process(["plan", str(suite), *profile, "--out", str(tmp_path / "run"), "--json"], capsys)
    assert done.code == 0, done.err
    cells = json.loads(done.out)
    assert len(cells) == seeds * (3 * 2 * 2 + 3)


def test_the_backend_chapter_works_as_written(tmp_path: Path) -> None:
    new, install, check = commands_with("plugin new")
    done = in_subprocess(new[1:], environment(tmp_path / "cache"), tmp_path)
    assert done.code == 0, done.err
    package = tmp_path / install[-1]
    assert (package / "pyproject.toml").exists()
    # what pip leaves of an editable install, without asking an index for the build backend
    info = package / "installed-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 0.1.0\n")
    entry = re.search(
        r"\[project.entry-points.qpabench\]\n(.*?)\n\n", (package / "pyproject.toml").read_text(), re.DOTALL
    )
    assert entry is not None
    (info / "entry_points.txt").write_text(f"[qpabench]\n{entry[1].replace(chr(34), '')}\n")
    done = in_subprocess(check[1:], environment(tmp_path / "cache", package), tmp_path)
    assert done.code == 0, done.out + done.err
    assert "FAILED" not in done.out


def test_the_two_commands_are_those_of_ci_and_tox() -> None:
    tests = "python -m pip install tox && tox run\n"
    assert tests in README
    assert tests in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "python -m pip install tox && tox run -e quickstart\n" in README
    assert "[testenv:quickstart]" in (ROOT / "tox.ini").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`qpabench ([a-z]+)", README))))
def test_every_command_named_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process([command, "--help"], capsys).code == 0
