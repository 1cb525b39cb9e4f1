"""A report is made from records alone, says what they say, and comes out the same every time."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from planted import (
    BASE_MASKED,
    planted_cell,
    planted_failure,
    planted_id,
    planted_record,
    planted_run,
)

from qpabench.errors import InputError
from qpabench.records.record import Record
from qpabench.reports.report import report_markdown, write_report
from qpabench.reports.run import load_run


def report_of(root: Path) -> str:
    """The text alone: drawing takes most of the time and most tests need none of it."""
    return report_markdown(load_run(root))


def rows_under(report: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, header row first."""
    lines = report.split(f"{heading}\n", 1)[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| "))
    table = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return [table[0], *table[2:]]


def test_rebuilding_gives_the_same_bytes(tmp_path: Path) -> None:
    planted_run(tmp_path, planted_record("lora r=4", 38.98), planted_record("qpa", 35.8, generator="qpa"))
    first = {path: path.read_bytes() for path in write_report(tmp_path)}
    assert {path: path.read_bytes() for path in write_report(tmp_path)} == first


def test_another_process_gives_the_same_bytes(tmp_path: Path) -> None:
    planted_run(tmp_path, planted_record("lora r=4", 38.98), planted_record("qpa", 35.8, generator="qpa"))
    first = {path: path.read_bytes() for path in write_report(tmp_path)}
    script = "import sys, pathlib, qpabench.reports.report as r; r.write_report(pathlib.Path(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=True, env={**os.environ, "PYTHONHASHSEED": "7"}
    )
    assert {path: path.read_bytes() for path in first} == first


def test_every_promised_file_is_written(tmp_path: Path) -> None:
    planted_run(tmp_path, planted_record("lora r=4"))
    names = {path.relative_to(tmp_path).as_posix() for path in write_report(tmp_path)}
    figures = {f"figures/{stem}.{kind}" for stem in ("perplexity", "loss", "time") for kind in ("svg", "png")}
    assert names == {"report.md", "results.csv", "results.parquet"} | figures


@pytest.mark.parametrize("alike", [0, 3, 20])
def test_what_a_figure_cannot_show_is_said_below_it(tmp_path: Path, alike: int) -> None:
    twins = [
        planted_record(f"qpa {i}", 38.0001, generator="qpa", backend=f"simulator-{i}") for i in range(alike)
    ]
    planted_run(tmp_path, planted_record("lora r=4", 38.98), *twins)
    write_report(tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    (caption,) = re.findall(r"\*Masked perplexity over trainable parameters.*\*", report)
    assert (f"{alike - 1} of {alike + 1} points lie under others" in caption) == (alike > 0)
    assert ("The legend has the first 14 of 22 entries" in caption) == (alike == 20)


def test_figure_of_an_earlier_report_is_removed(tmp_path: Path) -> None:
    planted_run(tmp_path, planted_record("lora r=4"))
    write_report(tmp_path)
    planted_run(tmp_path, planted_failure("lora r=4"))
    write_report(tmp_path)
    assert list((tmp_path / "figures").iterdir()) == []


def test_every_link_leads_to_a_file(tmp_path: Path) -> None:
    write_report(planted_run(tmp_path, planted_record("lora r=4"), planted_failure("broken")))
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", report)
    assert len(links) >= 7
    assert all((tmp_path / link).exists() for link in links)


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no run\.json"):
        write_report(tmp_path)


def test_untrained_base_has_its_own_row(tmp_path: Path) -> None:
    report = report_of(planted_run(tmp_path, planted_record("lora r=4", 38.98)))
    base = next(row for row in rows_under(report, "### Ranking") if row[1] == "*untrained base*")
    assert base[3:5] == ["40.00", "30,000"]


def test_cells_stand_by_masked_perplexity_with_the_base_among_them(tmp_path: Path) -> None:
    records = planted_record("worse", 58.2), planted_record("good", 38.98), planted_record("best", 35.84)
    ranking = rows_under(report_of(planted_run(tmp_path, *records)), "### Ranking")
    assert [row[1] for row in ranking[1:]] == ["best", "good", "*untrained base*", "worse"]


def test_each_model_and_dataset_has_its_own_base(tmp_path: Path) -> None:
    records = planted_record("one"), planted_record("two", dataset="other-text")
    assert report_of(planted_run(tmp_path, *records)).count("*untrained base*") == 2


def test_missing_metric_is_an_empty_cell(tmp_path: Path) -> None:
    measured = planted_record("measured", metrics={"perplexity_word": 77.0})
    ranking = rows_under(report_of(planted_run(tmp_path, measured, planted_record("missing"))), "### Ranking")
    column = ranking[0].index("per word")
    assert {row[1]: row[column] for row in ranking[1:]} == {
        "measured": "77.00",
        "missing": "",
        "*untrained base*": "",
    }


def test_metric_that_no_cell_has_has_no_column(tmp_path: Path) -> None:
    report = report_of(planted_run(tmp_path, planted_record("lora r=4")))
    assert "strided" not in rows_under(report, "### Ranking")[0]


def test_metric_of_a_plugin_is_shown(tmp_path: Path) -> None:
    planted_run(tmp_path, planted_record("lora r=4", metrics={"entanglement_entropy": 0.25}))
    assert rows_under(report_of(tmp_path), "### Further measurements")[0] == ["cell", "entanglement entropy"]


def test_seeds_of_one_cell_share_a_row_with_mean_and_spread(tmp_path: Path) -> None:
    options = planted_cell("lora r=4")["options"]
    records = [planted_record("lora r=4", 38.0 + seed, seed=seed, options=options) for seed in (0, 1, 2)]
    row = rows_under(report_of(planted_run(tmp_path, *records)), "### Ranking")[1]
    assert (row[3], row[-2]) == ("39.00 ± 1.0", "3")


def test_row_over_seeds_links_each_record(tmp_path: Path) -> None:
    options = planted_cell("lora r=4")["options"]
    records = [planted_record("lora r=4", seed=seed, options=options) for seed in (0, 1)]
    row = rows_under(report_of(planted_run(tmp_path, *records)), "### Ranking")[1]
    assert all(f"(records/{planted_id('lora r=4', seed)}.json)" in row[-1] for seed in (0, 1))


def test_generated_cell_stands_beside_the_direct_one_nearest_in_parameters(tmp_path: Path) -> None:
    direct = [
        planted_record(f"lora r={r}", n_trainable=51025 * r, metrics={"n_trainable": 51025 * r})
        for r in (1, 2, 4)
    ]
    planted_run(tmp_path, *direct, planted_record("qpa", generator="qpa"))
    row = rows_under(report_of(tmp_path), "### At the nearest budget")[1]
    assert row[:4] == ["qpa", "106,264", "lora r=2", "102,050"]


def test_cells_not_ok_are_listed_with_their_reason(tmp_path: Path) -> None:
    cells = planted_failure("diverged"), planted_failure("too large", "unsupported", "21 qubits, at most 20")
    rows = rows_under(
        report_of(planted_run(tmp_path, planted_record("lora r=4"), *cells)), "## Cells without numbers"
    )
    assert [row[:3] for row in rows[1:]] == [
        ["diverged", "failed", "loss is not finite"],
        ["too large", "unsupported", "21 qubits, at most 20"],
    ]


def test_planned_cell_without_record_is_listed(tmp_path: Path) -> None:
    record = planted_record("lora r=4")
    planted_run(tmp_path, record, cells=[record.id, "f" * 16])
    assert rows_under(report_of(tmp_path), "## Cells without numbers")[1][:3] == [
        "f" * 16,
        "no record",
        "no record yet",
    ]


def test_damaged_record_is_reported_the_same_way_twice(tmp_path: Path) -> None:
    record = planted_record("lora r=4")
    planted_run(tmp_path, record, planted_record("whole"))
    (tmp_path / "records" / f"{record.id}.json").write_text("{", encoding="utf-8")
    first = report_of(tmp_path)
    assert "its record was damaged" in first
    assert report_of(tmp_path) == first


def test_damaged_series_is_named_and_the_rest_is_reported(tmp_path: Path) -> None:
    record = planted_record("lora r=4")
    planted_run(tmp_path, record)
    (tmp_path / "records" / f"{record.id}.npz").write_bytes(b"no archive")
    report = report_of(tmp_path)
    assert f"records/{record.id}.npz cannot be read".replace("_", r"\_") in report
    assert "*untrained base*" in report


def test_run_without_any_ok_cell_has_a_report(tmp_path: Path) -> None:
    assert "2 cells planned: 1 failed, 1 timeout." in report_of(
        planted_run(tmp_path, planted_failure("a"), planted_failure("b", "timeout", "60 s"))
    )


def test_cell_that_ran_beside_others_is_marked_and_not_compared(tmp_path: Path) -> None:
    records = planted_record("lora r=4"), planted_record("qpa", generator="qpa", alone=False)
    row = rows_under(report_of(planted_run(tmp_path, *records)), "### Where the time goes")
    assert {r[0]: r[-1] for r in row[1:]} == {"lora r=4": "", "qpa †": ""}


def test_step_ratio_is_shown_between_cells_that_ran_alone(tmp_path: Path) -> None:
    slow = planted_record("qpa", generator="qpa", metrics={"step_seconds_median": 0.05})
    rows = rows_under(
        report_of(planted_run(tmp_path, planted_record("lora r=4"), slow)), "### Where the time goes"
    )
    assert {r[0]: r[-1] for r in rows[1:]} == {"lora r=4": "", "qpa": "2.50"}


@pytest.mark.parametrize(
    ("own", "ratio"),
    [({"loss": "masked"}, "2.50"), ({"loss": "padded"}, ""), ({"loss": "masked", "batch_size": 8}, "")],
)
def test_steps_over_other_positions_are_not_compared(
    tmp_path: Path, own: dict[str, object], ratio: str
) -> None:
    def options(label: str, **train: object) -> dict[str, object]:
        planted: dict[str, object] = planted_cell(label)["options"]
        return planted | {"train": {"planted_as": label, **train}}

    direct = planted_record("lora", options=options("lora", loss="masked"))
    slow = {"step_seconds_median": 0.05}
    qpa = planted_record("qpa", generator="qpa", options=options("qpa", **own), metrics=slow)
    rows = rows_under(report_of(planted_run(tmp_path, direct, qpa)), "### Where the time goes")
    assert {r[0]: r[-1] for r in rows[1:]} == {"lora": "", "qpa": ratio}


def test_the_nearest_direct_cell_has_the_same_loss_if_there_is_one(tmp_path: Path) -> None:
    def record(label: str, loss: str, size: int, generator: str = "direct") -> Record:
        options = planted_cell(label)["options"] | {"train": {"planted_as": label, "loss": loss}}
        sizes = {"n_trainable": size}
        return planted_record(label, generator=generator, options=options, metrics=sizes, **sizes)

    planted_run(
        tmp_path,
        record("near", "masked", 100_000),
        record("far", "padded", 500_000),
        record("qpa padded", "padded", 100_000, "qpa"),
        record("qpa masked", "masked", 100_000, "qpa"),
    )
    rows = rows_under(report_of(tmp_path), "### At the nearest budget")[1:]
    assert {row[0]: row[2] for row in rows} == {"qpa padded": "far", "qpa masked": "near"}


def test_identical_provenance_is_said_once(tmp_path: Path) -> None:
    report = report_of(planted_run(tmp_path, planted_record("one"), planted_record("two")))
    assert report.count("planted processor") == 1


def test_perplexities_are_explained(tmp_path: Path) -> None:
    report = report_of(planted_run(tmp_path, planted_record("lora r=4")))
    assert "only positions that hold text are scored" in report
    assert "padding after the text included" in report


def test_share_of_padding_is_said(tmp_path: Path) -> None:
    assert "72.0 % of the positions of the test rows are padding" in report_of(
        planted_run(tmp_path, planted_record("lora r=4"))
    )


def test_command_that_made_it_is_shown(tmp_path: Path) -> None:
    report = report_of(
        planted_run(tmp_path, planted_record("lora r=4"), command="qpabench run x.toml --jobs 2")
    )
    assert "```\nqpabench run x.toml --jobs 2\n```" in report


def test_csv_has_a_row_a_record_and_nothing_for_what_is_absent(tmp_path: Path) -> None:
    write_report(planted_run(tmp_path, planted_record("lora r=4", 38.98), planted_failure("broken")))
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["label"], r["status"], r["perplexity_masked"]) for r in rows] == [
        ("lora r=4", "ok", "38.98"),
        ("broken", "failed", ""),
    ]


def test_parquet_keeps_types_and_nulls(tmp_path: Path) -> None:
    write_report(planted_run(tmp_path, planted_record("lora r=4", 38.98), planted_failure("broken")))
    table = pq.read_table(tmp_path / "results.parquet")
    assert table["n_trainable"].to_pylist() == [199680, 199680]
    assert table["perplexity_masked"].to_pylist() == [38.98, None]


def test_importing_the_package_loads_no_plotting() -> None:
    heavy = ("matplotlib", "pyarrow", "jinja2", "numpy")
    script = f"import sys, qpabench.reports; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_base_that_cells_disagree_on_is_a_warning(tmp_path: Path) -> None:
    other = planted_record("other", metrics={"base_perplexity_masked": BASE_MASKED * 1.01})
    report = report_of(planted_run(tmp_path, planted_record("one"), other))
    assert "Cells disagree on the untrained base" in report


def test_parts_of_labels_that_all_cells_share_are_said_once(tmp_path: Path) -> None:
    records = [planted_record(f"lora(rank={r}) · direct · seed 0") for r in (1, 2)]
    report = report_of(planted_run(tmp_path, *records))
    assert "left out of their names below: direct, seed 0." in report
    assert [row[0] for row in rows_under(report, "### Parameters")[1:]] == ["lora(rank=1)", "lora(rank=2)"]


def test_exported_labels_stay_whole(tmp_path: Path) -> None:
    write_report(planted_run(tmp_path, *(planted_record(f"lora(rank={r}) · seed 0") for r in (1, 2))))
    labels = pq.read_table(tmp_path / "results.parquet")["label"].to_pylist()
    assert labels == ["lora(rank=1) · seed 0", "lora(rank=2) · seed 0"]
