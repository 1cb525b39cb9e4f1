"""A suite from its file to the report, and again."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Done, environment, in_subprocess
from conftest import Bench
from written_suites import DIRECT, write_suite

from qpabench import compiled

#: two workers have one thread each, one has two: sums in another order, through a short training
JOBS_TOLERANCE = 1e-5
Run = tuple[Bench, Done]


def test_exit_code_is_zero(undisturbed: Run) -> None:
    assert undisturbed[1].code == 0, undisturbed[1]


def test_every_planned_cell_has_its_record(undisturbed: Run) -> None:
    bench, _ = undisturbed
    assert [record.id for record in bench.records()] == bench.manifest()["cells"]
    assert len(bench.records()) == 5


def test_what_is_absent_is_a_row_with_the_command_that_gets_it(undisturbed: Run) -> None:
    statuses = [record.status for record in undisturbed[0].records()]
    assert statuses == ["ok", "ok", "ok", "ok", "unavailable"]
    assert "hf download openai-community/gpt2" in undisturbed[0].records()[-1].reason


def test_the_end_of_the_run_counts_statuses(undisturbed: Run) -> None:
    assert "4 ok, 1 unavailable; report: run" in undisturbed[1].out


def test_the_end_of_the_run_says_why_a_cell_did_not_run(undisturbed: Run) -> None:
    (line,) = (line for line in undisturbed[1].out.splitlines() if line.startswith("1 unavailable: "))
    assert "hf download openai-community/gpt2" in line


@pytest.mark.parametrize("name", ["report.md", "results.csv", "results.parquet"])
def test_the_report_is_written(undisturbed: Run, name: str) -> None:
    assert (undisturbed[0].folder / "run" / name).stat().st_size > 0


def test_nothing_temporary_is_left(undisturbed: Run) -> None:
    assert not [
        path for path in (undisturbed[0].folder / "run").rglob("*") if path.suffix in (".tmp", ".part")
    ]


def test_a_record_says_how_its_losses_were_computed(undisturbed: Run) -> None:
    provenance = undisturbed[0].records()[2].provenance
    assert provenance["head"] == "kept-logits"
    assert provenance["loops"] == ("compiled" if compiled.in_use() else "torch")
    assert ("numba" in provenance["versions"]) == (find_spec("numba") is not None)


def test_a_record_holds_the_metrics_of_the_contract(undisturbed: Run) -> None:
    wanted = {
        "perplexity_padded", "perplexity_masked", "base_perplexity_padded", "base_perplexity_masked",
        "n_trainable", "n_theta", "n_mapping", "n_generated", "n_qubits", "gradient_variance_theta",
        "step_seconds_median", "train_seconds", "eval_seconds", "peak_memory_bytes", "circuits_executed",
    }  # fmt: skip
    assert set(undisturbed[0].records()[2].metrics) >= wanted


def test_a_record_holds_where_it_came_from(undisturbed: Run) -> None:
    provenance = undisturbed[0].records()[1].provenance
    assert "trouble-plugin 1.2.3" in str(provenance)


def test_series_lie_beside_the_record(undisturbed: Run) -> None:
    bench, _ = undisturbed
    first = bench.records()[0]
    series = bench.series()[first.id]
    assert len(series["train_loss"]) == first.metrics["n_steps"]
    assert np.exp(np.mean(series["test_nll"])) == pytest.approx(first.metrics["perplexity_masked"], rel=1e-5)


def test_what_was_trained_lies_beside_the_record(undisturbed: Run) -> None:
    from safetensors.torch import load_file

    bench, _ = undisturbed
    state = load_file(bench.folder / "run" / "records" / f"{bench.records()[0].id}.safetensors")
    assert {tuple(value.shape) for value in state.values()} == {(257, 2), (2, 32)}


def test_running_again_runs_nothing(undisturbed: Run) -> None:
    bench, _ = undisturbed
    files = sorted((bench.folder / "run" / "records").glob("*.json"))
    before = [file.read_bytes() for file in files]
    done = bench.run()
    assert done.code == 0
    assert "5 cells, 0 to run" in done.out
    assert [file.read_bytes() for file in files] == before


def test_a_second_run_elsewhere_gives_the_same_metrics_and_series(undisturbed: Run) -> None:
    bench, _ = undisturbed
    assert bench.run("--only", "model=tiny-gpt2", out="again").code == 0
    again = bench.outcome("again")
    assert len(again) == 4
    assert again == {cell: bench.outcome()[cell] for cell in again}
    assert bench.series("again") == {cell: bench.series()[cell] for cell in again}


def test_two_jobs_at_a_time_give_the_same_metrics(undisturbed: Run) -> None:
    bench, _ = undisturbed
    assert bench.run("--jobs", "2", out="parallel").code == 0
    parallel = bench.outcome("parallel")
    for cell, (status, reason, metrics) in bench.outcome().items():
        assert parallel[cell][:2] == (status, reason)
        assert parallel[cell][2] == pytest.approx(metrics, rel=JOBS_TOLERANCE)


def test_a_run_directory_that_cannot_be_written_is_one_line(undisturbed: Run, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        (tmp_path / "file").write_text("")
        place = tmp_path / "file" / "run"  # a file where a folder should be stops even root
    else:
        place = tmp_path / "locked"
        place.mkdir(mode=0o500)
    done = undisturbed[0].run(out=str(place))
    assert done.code in (1, 2)
    assert len(done.err.splitlines()) == 1
    assert "Traceback" not in done.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_cells_are_unavailable_and_no_error(tmp_path: Path) -> None:
    write_suite(tmp_path, DIRECT)
    done = in_subprocess(
        ["run", "suite.toml", "--device", "cuda", "--out", "run"], environment(tmp_path / "cache"), tmp_path
    )
    assert done.code == 0, done
    assert "1 unavailable: device 'cuda': torch sees 0 CUDA devices" in done.out
