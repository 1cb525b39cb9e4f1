"""Published numbers stand beside measured ones, and nobody is led to compare what can't be compared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from planted import planted_failure, planted_record, planted_run

from qpabench.errors import InputError
from qpabench.records.record import Record
from qpabench.reports.published import count_agrees, counted, nearest_measured, published
from qpabench.reports.published_tables import beside, pauli_readout
from qpabench.reports.report import write_report
from qpabench.reports.run import Run, load_run

PERCENT_ONLY_ROUNDED = [("Table 3", "QPA LoRA setting 1 (Ours)")]
FIGURE = {"x": "n_trainable", "y": ["perplexity_padded", "perplexity_masked"]}


def like_published(label: str = "qpa", *, padded: float = 1.6, seed: int = 0, **changes: Any) -> Record:
    options: dict[str, Any] = {
        "model": {"dtype": "float32"},
        "dataset": {"max_length": 512, "train_rows": None, "test_rows": None},
        "target": {"rank": 4, "target_modules": ["lm_head"]},
        "generator": {"chunk_size": 2048, "n_layers": 8, "start": "random", "basis_order": "redrawn"},
        "backend": {"shots": None, "shots_per_state": None},
        "train": {"epochs": 3, "learning_rate": 1e-5, "loss": "padded", "preset": "paper"},
        "evaluate": {"batch_size": 2},
    }
    for part, own in changes.pop("options", {}).items():
        options[part] = {**options[part], **own}
    cell = {"model": "gpt2", "dataset": "wikitext-2", "generator": "qpa", "options": options}
    return planted_record(label, padded=padded, seed=seed, **(cell | changes))


def run_of(root: Path, *records: Record, **manifest: Any) -> Run:
    return load_run(planted_run(root, *records, **manifest))


def of_table_2() -> Any:
    (value,) = (
        v for v in published() if (v.where, v.row, v.column) == ("Table 2", "QPA LoRA (Ours)", "GPT-2")
    )
    return value


@pytest.mark.parametrize("value", published(), ids=lambda v: f"{v.where}, {v.column}, {v.row}")
def test_every_published_count_comes_out(value: Any) -> None:
    if not {"n_trainable", "parameters_percent"} & set(value.values):
        assert count_agrees(value) == ""
    else:
        expected = "rounded" if (value.where, value.row) in PERCENT_ONLY_ROUNDED else "yes"
        assert count_agrees(value) == expected


def test_every_table_is_there_in_full() -> None:
    rows = [value.where for value in published()]
    assert {where: rows.count(where) for where in rows} == {
        "Table 2": 16, "Table 3": 4, "Table 8": 12, "Table 9": 12, "Section 4.1": 2, "Appendix I": 4,
    }  # fmt: skip


def test_the_percentages_of_the_abstract_follow_from_the_counts() -> None:
    by_row = {(v.where, v.column, v.row): counted(v) for v in published()}
    ours, lora = by_row["Table 2", "GPT-2", "QPA LoRA (Ours)"], by_row["Table 2", "GPT-2", "LoRA"]
    assert ours is not None
    assert lora is not None
    assert round(100 * ours[0] / lora[0], 2) == 52.06


def test_the_papers_own_conditions_are_comparable(tmp_path: Path) -> None:
    found = nearest_measured(of_table_2(), run_of(tmp_path, like_published()).contexts)
    assert found is not None
    assert found.apart == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "smollm2-135m"}, "model smollm2-135m, not gpt2"),
        ({"dataset": "wikipedia-sample"}, "text wikipedia-sample, not wikitext-2"),
        ({"protocol": "paper-text"}, "protocol paper-text, not released-code"),
        ({"options": {"train": {"loss": "masked"}}}, "masked loss, not padded"),
        ({"options": {"dataset": {"max_length": 128}}}, "rows of 128 tokens, not 512"),
        ({"options": {"dataset": {"train_rows": 96}}}, "96 train rows, not all"),
        ({"options": {"train": {"preset": "none"}}}, "training settings of our own, not Tables 4 to 7"),
    ],
)
def test_a_condition_that_differs_is_named(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    found = nearest_measured(of_table_2(), run_of(tmp_path, like_published(**changes)).contexts)
    assert found is not None
    assert found.apart == (reason,)


@pytest.mark.parametrize(
    "options",
    [
        {"generator": {"start": "zero"}},
        {"generator": {"chunk_size": 512}},
        {"generator": {"n_layers": 16}},
        {"target": {"rank": 2}},
        {"backend": {"shots_per_state": 20}},
    ],
)
def test_another_cell_is_not_the_published_one(options: dict[str, Any], tmp_path: Path) -> None:
    run = run_of(tmp_path, like_published(options=options))
    assert nearest_measured(of_table_2(), run.contexts) is None


def test_the_nearest_of_several_cells_is_shown(tmp_path: Path) -> None:
    run = run_of(tmp_path, like_published("far", model="smollm2-135m"), like_published("near"))
    found = nearest_measured(of_table_2(), run.contexts)
    assert found is not None
    assert found.group.label == "near"


def test_the_difference_is_measured_minus_published(tmp_path: Path) -> None:
    drawn, notes = beside([of_table_2()], run_of(tmp_path, like_published(padded=1.6)).contexts)
    assert "| 1.583 | 1.600 | +0.0170 | yes |" in drawn
    assert notes == ""


def test_what_has_no_cell_is_said_to_be_unmeasured(tmp_path: Path) -> None:
    drawn, _ = beside(published(), run_of(tmp_path, like_published()).contexts)
    assert drawn.count("not measured") > 40


def test_seconds_are_never_comparable(tmp_path: Path) -> None:
    (value,) = (v for v in published() if v.where == "Table 8" and v.values["n_trainable"] == 106264)
    drawn, notes = beside([value], run_of(tmp_path, like_published()).contexts)
    assert "no: a" in drawn
    assert notes == "(a) another machine"


def test_a_pauli_readout_needs_one_qubit_an_output(tmp_path: Path) -> None:
    drawn = pauli_readout(run_of(tmp_path, like_published()).contexts)
    assert drawn is not None
    assert "| 7 | 128 | 98 |" in drawn


def whole(root: Path) -> Path:
    """A run of two suites that share a cell."""
    one, two = like_published("one"), like_published("two", options={"generator": {"chunk_size": 512}})
    two_cell = {**two.cell, "n_trainable": 55656, "n_qubits": 9}
    two = Record(two_cell, two.status, two.reason, two.metrics, two.timing, two.provenance)
    members = [
        {"name": "a", "title": "Figure A", "summary": "", "figures": [FIGURE], "cells": [one.id, two.id]},
        {"name": "b", "title": "Figure B", "summary": "", "figures": [], "cells": [one.id]},
    ]
    return planted_run(root, one, two, members=members)


def test_the_front_page_links_the_record_of_its_best_cell(tmp_path: Path) -> None:
    write_report(whole(tmp_path))
    (line,) = [
        line
        for line in (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
        if "Lowest masked perplexity" in line
    ]
    (record,) = re.findall(r"\]\((records/[0-9a-f]{16}\.json)\)", line)
    assert (tmp_path / record).is_file()


def test_a_run_of_several_suites_has_a_file_for_each(tmp_path: Path) -> None:
    written = {path.relative_to(tmp_path).as_posix() for path in write_report(whole(tmp_path))}
    assert {"report.md", "a.md", "b.md", "published.md", "figures/a-asked-1.svg"} <= written
    front = (tmp_path / "report.md").read_text()
    assert "[Figure A](a.md): 2 of 2 cells measured" in front
    assert "[Figure B](b.md): 1 of 1 cells measured" in front


def test_every_link_and_figure_of_every_page_is_there(tmp_path: Path) -> None:
    write_report(whole(tmp_path))
    for page in tmp_path.glob("*.md"):
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            assert (tmp_path / target).exists(), (page.name, target)


def test_all_pages_come_out_the_same_again(tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in write_report(whole(tmp_path))}
    for path in before:
        path.unlink()
    assert {path: path.read_bytes() for path in write_report(tmp_path)} == before


def test_figures_of_suites_no_longer_included_are_removed(tmp_path: Path) -> None:
    write_report(whole(tmp_path))
    stale = tmp_path / "figures/gone-asked-1.svg"
    stale.write_text("old")
    write_report(tmp_path)
    assert not stale.exists()


def test_the_differences_come_from_the_options_in_use(tmp_path: Path) -> None:
    write_report(whole(tmp_path))
    text = (tmp_path / "report.md").read_text()
    for said in ("Padding is scored", "Basis drawn anew", "Frozen backbone", "One more layer"):
        assert said in text
    for unsaid in ("Masked loss", "Another model", "Gemma", "Prefix", "Device noise", "Shorter rows"):
        assert f"**{unsaid}" not in text


@pytest.mark.parametrize("name", ["../../escape", "a/b", "", "a\n", "x" * 101, "[red]"])
def test_a_member_whose_name_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    one = like_published("one")
    planted_run(tmp_path / "run", one, members=[{"name": name, "cells": [one.id]}])
    with pytest.raises(InputError, match=r"members\.0\.name: found"):
        write_report(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_suites_page_has_its_published_numbers_measured_or_not(tmp_path: Path) -> None:
    one = like_published("one")
    members = [{"name": "fig3", "title": "Figure 3", "figures": [FIGURE], "cells": [one.id]}]
    write_report(planted_run(tmp_path, one, members=members))
    text = (tmp_path / "fig3.md").read_text()
    assert "GPT-2, QPA FFA (Ours)" in text
    assert "not measured" in text


def test_published_numbers_belong_to_suites_that_ship() -> None:
    folder = Path(__file__).parents[2] / "suites/paper"
    assert {name for value in published() for name in value.suites} <= {p.stem for p in folder.glob("*.toml")}


def test_the_front_page_counts_cells_without_numbers_by_reason(tmp_path: Path) -> None:
    root = whole(tmp_path)
    failed = [planted_failure(f"f{n}", "unavailable", "no weights here") for n in range(3)]
    ids = [one.id for one in (like_published("one"), *failed)]
    members = [{"name": "a", "title": "Figure A", "cells": ids}]
    write_report(planted_run(root, like_published("one"), *failed, members=members))
    assert "| 3 | unavailable | no weights here |" in (root / "report.md").read_text()
