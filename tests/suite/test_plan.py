"""What would be done with each cell, and why."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from written_suites import DIRECT, QPA, write_suite

from qpabench.hooks.manager import load_registry
from qpabench.suite.document import device_setting
from qpabench.suite.plan import PlannedCell, make_plan

FIELDS = {
    "id", "label", "model", "dataset", "target", "generator", "backend", "ansatz", "n_qubits", "n_layers",
    "n_chunks", "chunk_size", "n_generated", "n_trainable", "n_theta", "circuits_per_step", "seed", "status",
    "reason",
}  # fmt: skip


def plan(
    folder: Path,
    body: str = DIRECT,
    record: tuple[str, str] | None = None,
    settings: tuple[str, ...] = (),
    **options: bool,
) -> PlannedCell:
    suite = write_suite(folder, body)
    made = make_plan(suite, load_registry(), settings=settings, finished=lambda cell_id: record, **options)
    (cell,) = made.cells
    return cell


def test_a_cell_without_a_record_runs(tmp_path: Path) -> None:
    assert plan(tmp_path).status == "run"


def test_a_cell_that_ended_well_is_cached(tmp_path: Path) -> None:
    assert plan(tmp_path, record=("ok", "")).status == "cached"


@pytest.mark.parametrize("status", ["failed", "timeout", "out-of-memory"])
def test_a_cell_that_failed_is_cached_with_its_reason(status: str, tmp_path: Path) -> None:
    found = plan(tmp_path, record=(status, "lightning struck"))
    assert found.status == "cached"
    assert found.reason == f"{status} earlier: lightning struck (--retry-failed runs it again)"


@pytest.mark.parametrize("status", ["failed", "timeout", "out-of-memory"])
def test_a_cell_that_failed_runs_again_when_asked(status: str, tmp_path: Path) -> None:
    assert plan(tmp_path, record=(status, "x"), retry_failed=True).status == "run"


def test_fresh_runs_what_has_a_record(tmp_path: Path) -> None:
    assert plan(tmp_path, record=("ok", ""), fresh=True).status == "run"


def test_an_unavailable_cell_is_tried_again(tmp_path: Path) -> None:
    assert plan(tmp_path, record=("unavailable", "no network")).status == "run"


def test_a_cell_found_unsupported_while_running_stays_so(tmp_path: Path) -> None:
    found = plan(tmp_path, record=("unsupported", "no such gate"))
    assert (found.status, found.reason) == ("unsupported", "no such gate")


UNSUPPORTED: Mapping[str, tuple[str, str]] = {
    "rank": ("target.rank=100", "rank 100 is larger than the layer"),
    "chunk": ("generator.chunk_size=100000", "chunk_size 100000 is larger than the 578 numbers to generate"),
    "gradient": (
        "backend={name='native', shots=10, gradient='own'}",
        "has no gradient of its own with shots",
    ),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_cannot_be_measured_is_unsupported_with_its_reason(case: str, tmp_path: Path) -> None:
    setting, reason = UNSUPPORTED[case]
    found = plan(tmp_path, QPA, settings=(setting,))
    assert found.status == "unsupported"
    assert reason in found.reason


def test_too_many_qubits_are_unsupported(tmp_path: Path) -> None:
    body = (
        QPA.replace('name = "qpa", chunk_size = 64', 'name = "qpa", chunk_size = 1') + 'backend = "noisy"\n'
    )
    registry = load_registry()
    from dataclasses import replace

    from qpabench.hooks.manager import Registered

    native = registry.find("backend", "native")
    registry.entries["backend"]["noisy"] = Registered(
        replace(native.entry, name="noisy", max_qubits=9), native.source
    )  # type: ignore[call-arg]
    (cell,) = make_plan(write_suite(tmp_path, body), registry).cells
    assert (cell.status, cell.reason) == (
        "unsupported",
        "10 qubits are more than backend noisy takes; expected at most 9",
    )


def test_an_unsupported_cell_keeps_the_others(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, DIRECT.replace("rank = 2", "rank = [2, 100]"))
    assert [cell.status for cell in make_plan(suite, load_registry()).cells] == ["run", "unsupported"]


def test_absent_weights_are_unavailable_with_the_command_that_gets_them(tmp_path: Path) -> None:
    found = plan(tmp_path, settings=("model=gpt2",))
    assert found.status == "unavailable"
    assert "hf download openai-community/gpt2" in found.reason


def test_an_absent_text_is_unavailable_and_named(tmp_path: Path) -> None:
    found = plan(tmp_path, settings=("dataset.test=absent.txt",))
    assert found.status == "unavailable"
    assert "'absent.txt' is not there" in found.reason


def test_json_has_the_fields_of_the_contract(tmp_path: Path) -> None:
    assert set(plan(tmp_path, QPA).to_json()) >= FIELDS


def test_circuits_a_step_are_counted(tmp_path: Path) -> None:
    body = (
        QPA
        + "backend = { name = 'native', gradient = ['own', 'parameter-shift', 'spsa'], spsa_repeats = 4 }\n"
    )
    cells = make_plan(write_suite(tmp_path, body), load_registry()).cells
    n_theta = cells[0].cell.n_theta
    assert [cell.cell.circuits_per_step for cell in cells] == [1, 1 + 2 * n_theta, 1 + 2 * 4]


@pytest.mark.parametrize("model", ['"tiny-gpt2"', '{ name = "tiny-gpt2", device = "cpu", seed = 3 }'])
def test_a_device_for_every_cell_is_as_if_the_suite_said_it(model: str, tmp_path: Path) -> None:
    suite = write_suite(tmp_path, DIRECT + f'model = [{model}, {{ name = "tiny-gpt2", seed = 5 }}]\n')
    settings = ('model.device="cuda"', device_setting("cuda:1"))  # the last one wins
    cells = [planned.cell for planned in make_plan(suite, load_registry(), settings=settings).cells]
    assert [cell.model.options.device for cell in cells] == ["cuda:1", "cuda:1"]
    assert cells[1].model.options.seed == 5


def test_the_cpu_asked_for_changes_no_id(tmp_path: Path) -> None:
    assert plan(tmp_path).cell.id == plan(tmp_path, settings=(device_setting("cpu"),)).cell.id
