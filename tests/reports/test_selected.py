"""``select = "validation"`` from the suite to the report."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner
from written_suites import QPA, write_suite

from qpabench.cli import app
from qpabench.errors import InputError
from qpabench.hooks.manager import load_registry
from qpabench.records.record import Record
from qpabench.records.store import RunDirectory
from qpabench.reports.report import write_report
from qpabench.running.runner import run_plan
from qpabench.suite.plan import make_plan

RATES = QPA + 'select = "validation"\ntrain = { learning_rate = [1e-3, 1e-2] }\n'


class Silent:
    """Events that nobody watches."""

    def started(self, *_: object) -> None:
        pass

    def progress(self, *_: object) -> None:
        pass

    def finished(self, *_: object) -> None:
        pass


@pytest.fixture
def finished_run(tmp_path: Path) -> Path:
    """Two candidates with planted figures: the worse on test is the better on validation."""
    registry = load_registry()
    plan = make_plan(write_suite(tmp_path, RATES), registry)
    root = tmp_path / "run"
    directory = RunDirectory(root)
    for planned, validation, test in zip(plan.cells, (50.0, 40.0), (60.0, 70.0), strict=True):
        metrics = {"validation_perplexity_masked": validation, "perplexity_masked": test}
        directory.write(Record(planned.cell.to_json(), "ok", metrics=metrics))
    done = make_plan(tmp_path / "suite.toml", registry, finished=lambda cell_id: ("ok", ""))
    run_plan(done, registry, root, Silent(), command="qpabench run suite.toml")
    return root


def test_manifest_names_the_cells(finished_run: Path) -> None:
    manifest = json.loads((finished_run / "run.json").read_text())
    assert manifest["select"]["validation"] == manifest["cells"]
    assert len(manifest["cells"]) == 2


def test_report_lists_all_candidates_and_marks_the_selected(finished_run: Path) -> None:
    write_report(finished_run)
    text = (finished_run / "report.md").read_text()
    section = text.partition("## Selected on validation")[2].partition("##")[0]
    lines = [line for line in section.splitlines() if line.startswith("| 1")]
    assert ["selected" in line for line in lines] == [False, True]
    assert all(figure in section for figure in ("50.00", "40.00", "60.00", "70.00", "0.001", "0.01"))


def test_without_select_there_is_no_section(finished_run: Path) -> None:
    directory = RunDirectory(finished_run)
    directory.write_manifest(directory.manifest() | {"select": {"validation": []}})
    write_report(finished_run)
    assert "Selected on validation" not in (finished_run / "report.md").read_text()


@pytest.mark.parametrize("value", ['"test"', '["validation"]', "1"])
def test_other_values_are_refused(tmp_path: Path, value: str) -> None:
    suite = write_suite(tmp_path, QPA + f"select = {value}\n")
    with pytest.raises(InputError, match=r"matrix\[0\]\.select: found .* expected one of none, validation"):
        make_plan(suite, load_registry())


def test_select_may_be_set_from_the_command_line(tmp_path: Path) -> None:
    suite = write_suite(tmp_path)
    assert (
        make_plan(suite, load_registry(), settings=("select=validation",)).cells[0].cell.select
        == "validation"
    )
    result = CliRunner().invoke(app, ["plan", str(suite), "--set", "select=test"])
    assert isinstance(result.exception, InputError)


def test_select_changes_no_id(tmp_path: Path) -> None:
    suite = write_suite(tmp_path)
    plain, chosen = (
        make_plan(suite, load_registry(), settings=s).cells[0].cell for s in ((), ("select=validation",))
    )
    assert plain.id == chosen.id
