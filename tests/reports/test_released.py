"""The reports under version control: rebuilt from their records, and out of the way of one's own runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qpabench.reports.report import write_report

RELEASED = Path(__file__).parents[2] / "reports" / "released"
SUITES = sorted(path.name for path in RELEASED.iterdir() if path.is_dir())


@pytest.mark.parametrize("name", SUITES)
def test_a_released_report_comes_back_from_its_records(name: str, tmp_path: Path) -> None:
    copy = tmp_path / name
    copy.mkdir()
    shutil.copy(RELEASED / name / "run.json", copy)
    shutil.copytree(RELEASED / name / "records", copy / "records")
    write_report(copy)
    kept = {path.relative_to(RELEASED / name) for path in (RELEASED / name).rglob("*") if path.is_file()}
    rebuilt = {path.relative_to(copy) for path in copy.rglob("*") if path.is_file()}
    assert rebuilt == kept
    # how a figure is drawn belongs to matplotlib's version; what the text says doesn't
    for page in (path for path in kept if path.suffix in (".md", ".csv")):
        assert (copy / page).read_bytes() == (RELEASED / name / page).read_bytes(), page


@pytest.mark.parametrize("name", SUITES)
def test_a_released_report_names_the_command_that_made_it(name: str) -> None:
    (page,) = (p for p in ("report.md", f"{name}.md") if (RELEASED / name / p).exists())
    text = (RELEASED / name / page).read_text(encoding="utf-8")
    assert f"Made by:\n\n```\nqpabench run suites/{name.removesuffix('-laptop')}.toml" in text


def test_no_shipped_suite_runs_into_the_released_reports() -> None:
    """The default directory is reports/<suite name>."""
    names = {path.stem for path in (RELEASED.parents[1] / "suites").rglob("*.toml")}
    assert names
    assert RELEASED.name not in names
