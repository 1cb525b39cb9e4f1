"""The suites that ship: each can be planned, and the paper's have the sizes that the paper prints."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from commands import in_process

from qpabench.hooks.manager import load_registry
from qpabench.suite.document import read_document
from qpabench.suite.plan import Plan, make_plan, profile_that_runs

SUITES = Path(__file__).parents[2] / "suites"
SHIPPED = sorted(SUITES.rglob("*.toml"))
PAPER = SUITES / "paper.toml"
GRIDS = {
    "gpt2": {256: 47248, 512: 55656, 1024: 72512, 2048: 106264, 4096: 173808, 8192: 308936},
    "gemma-2b": {1024: 72592, 4096: 173888, 8192: 309016, 16258: 575154, 32768: 1119944, 65536: 2201248},
}
#: forty-five minutes on two cores at about half a minute a cell
MOST_LAPTOP_CELLS = 80


@cache
def planned(path: Path, profile: str | None = None) -> Plan:
    return make_plan(path, load_registry(), profile=profile)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(SUITES)))
def test_a_shipped_suite_can_be_planned_with_each_profile(path: Path) -> None:
    for profile in (None, *read_document(path).profiles):
        cells = planned(path, profile).cells
        assert cells
        assert not [cell.reason for cell in cells if cell.status == "unsupported"]


@pytest.mark.parametrize("path", sorted((SUITES / "paper").glob("*.toml")), ids=lambda path: path.stem)
def test_a_suite_of_the_paper_is_named_as_its_file_and_included(path: Path) -> None:
    assert read_document(path).name == path.stem
    assert path.stem in [member.name for member in read_document(PAPER).members]


@pytest.mark.parametrize("profile", ["full", "gpu-day", "laptop"])
def test_every_figure_has_cells_in_every_profile(profile: str) -> None:
    members = [member["name"] for member in planned(PAPER, profile).members]
    assert members == [member.name for member in read_document(PAPER).members]


@pytest.mark.parametrize("model", GRIDS)
def test_the_counts_of_tables_8_and_9_come_out(model: str) -> None:
    suite = {"gpt2": "fig2-gpt2", "gemma-2b": "fig2-gemma"}[model]
    rows = [p.cell.summary() for p in planned(SUITES / "paper" / f"{suite}.toml").cells]
    lora = [row for row in rows if row["model"] == model and row["target"] == "lora"]
    generated = {row["chunk_size"]: row["n_trainable"] for row in lora if row["generator"] == "qpa"}
    direct = {row["n_trainable"] for row in lora if row["generator"] == "direct"}
    unit = {"gpt2": 51025, "gemma-2b": 258048}[model]
    assert generated == GRIDS[model]
    assert direct == {unit * rank for rank in (1, 2, 4, 8, 16, 32)}


def test_as_published_training_follows_the_tables_and_padding_is_scored() -> None:
    for planned_cell in planned(PAPER).cells:
        train = planned_cell.cell.train
        assert (train.preset, train.loss, train.batch_size) == ("paper", "padded", 1)


def test_the_laptop_profile_is_offline_and_small() -> None:
    cells = planned(PAPER, "laptop").cells
    assert len(cells) <= MOST_LAPTOP_CELLS
    assert {planned_cell.cell.model.name for planned_cell in cells} == {"smollm2-135m"}


def test_the_laptop_profile_shares_the_quickstarts_text() -> None:
    quickstart = planned(SUITES / "quickstart.toml").cells[0].cell
    ours = {p.cell.dataset.options.canonical() for p in planned(PAPER, "laptop").cells}
    assert ours == {quickstart.dataset.options.canonical()}


def test_figures_4a_and_10_run_nothing_of_their_own() -> None:
    cells = {m["name"]: set(m["cells"]) for m in planned(PAPER).members}
    assert cells["fig4a"] <= cells["fig2-gpt2"] | cells["fig2-gemma"]
    assert cells["fig10"] <= cells["fig2-gpt2"] | cells["fig4cd"]


def test_the_profile_that_runs_here_needs_nothing_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the hub may be asked: that it may doesn't mean that it answers."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_CACHE", "nowhere")
    assert profile_that_runs(PAPER, load_registry(), ("full", "gpu-day", "laptop"), 10_000) == "laptop"


def test_a_run_without_the_models_says_which_profile_runs_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", "nowhere")
    done = in_process(["run", str(SUITES / "paper" / "fig10.toml"), "--out", str(tmp_path)], capsys)
    assert (done.code, done.out.splitlines()[-1]) == (0, "runs here: --profile laptop")
