"""The gate trips on what got worse, and on nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted import planted_cell, planted_failure, planted_record, planted_run

from qpabench.errors import InputError
from qpabench.records.record import Record
from qpabench.reports.compare import Change, Comparison, compare
from qpabench.reports.compare_text import summary, to_markdown, to_text


def both(tmp_path: Path, a: Record | list[Record], b: Record | list[Record], **options: Any) -> Comparison:
    roots = tmp_path / "a", tmp_path / "b"
    for root, records in zip(roots, (a, b), strict=True):
        planted_run(root, *(records if isinstance(records, list) else [records]), **options)
    return compare(*roots)


def change(found: Comparison, metric: str) -> Change:
    return next(one for one in found.changes if one.metric == metric)


def test_a_run_against_itself_has_no_regression(tmp_path: Path) -> None:
    found = both(tmp_path, planted_record("lora r=4"), planted_record("lora r=4"))
    assert {one.verdict for one in found.changes} == {"same"}


def test_higher_perplexity_is_a_regression(tmp_path: Path) -> None:
    found = both(tmp_path, planted_record("lora r=4", padded=4.0), planted_record("lora r=4", padded=4.1))
    assert [one.metric for one in found.regressions] == ["perplexity_padded"]


def test_lower_perplexity_is_an_improvement(tmp_path: Path) -> None:
    found = both(tmp_path, planted_record("lora r=4", padded=4.0), planted_record("lora r=4", padded=3.9))
    assert ([one.metric for one in found.improvements], found.regressions) == (["perplexity_padded"], [])


def test_change_within_the_tolerance_is_none(tmp_path: Path) -> None:
    found = both(tmp_path, planted_record("lora r=4", padded=4.0), planted_record("lora r=4", padded=4.0003))
    assert change(found, "perplexity_padded").verdict == "same"


def test_interval_tells_a_worse_text(tmp_path: Path) -> None:
    found = both(tmp_path, planted_record("lora r=4", 36.0), planted_record("lora r=4", 39.0))
    masked = change(found, "perplexity_masked")
    assert masked.interval is not None
    assert masked.verdict == "worse"
    assert masked.interval.low < 3.0 < masked.interval.high


def test_worse_text_within_its_interval_is_no_regression(tmp_path: Path) -> None:
    found = both(
        tmp_path,
        [planted_record("first", 36.0), planted_record("second", 36.0)],
        [planted_record("second", 36.02), planted_record("first", 36.0)],
    )
    second = next(c for c in found.changes if c.label == "second" and c.metric == "perplexity_masked")
    assert second.verdict == "changed"


def test_without_series_the_tolerance_alone_decides(tmp_path: Path) -> None:
    found = both(tmp_path, planted_record("lora r=4", 36.0), planted_record("lora r=4", 36.02), series=False)
    assert [one.metric for one in found.regressions] == ["perplexity_masked"]


def test_vanished_cell_is_a_regression(tmp_path: Path) -> None:
    kept = planted_record("kept")
    found = both(tmp_path, [kept, planted_record("gone")], kept)
    assert [(one.label, one.verdict) for one in found.regressions] == [("gone", "vanished")]


def test_vanished_metric_is_a_regression(tmp_path: Path) -> None:
    with_word = planted_record("lora r=4", metrics={"perplexity_word": 77.0})
    found = both(tmp_path, with_word, planted_record("lora r=4"))
    assert [(one.metric, one.verdict) for one in found.regressions] == [("perplexity_word", "vanished")]


def test_cell_that_now_fails_is_a_regression(tmp_path: Path) -> None:
    found = both(tmp_path, planted_record("lora r=4"), planted_failure("lora r=4"))
    assert [(one.metric, one.b) for one in found.regressions] == [("status", "failed")]


def test_cell_that_failed_in_both_is_no_regression(tmp_path: Path) -> None:
    assert both(tmp_path, planted_failure("lora r=4"), planted_failure("lora r=4")).regressions == []


def test_new_cell_is_no_regression(tmp_path: Path) -> None:
    old = planted_record("old")
    found = both(tmp_path, old, [old, planted_record("new")])
    assert (found.regressions, [one.label for one in found.changes if one.verdict == "new"]) == ([], ["new"])


def test_cells_with_other_ids_are_paired_by_label_and_seed(tmp_path: Path) -> None:
    found = both(tmp_path, planted_record("lora r=4", id="a" * 16), planted_record("lora r=4", id="b" * 16))
    assert (found.n_paired, found.regressions) == (1, [])


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("model", {"model": "other-model"}),
        ("protocol", {"protocol": "paper-text"}),
        ("data.dataset", {"data": {"model": "sha256:planted-weights", "dataset": "sha256:other"}}),
        ("data.model", {"data": {"model": "sha256:other", "dataset": "sha256:planted-text"}}),
    ],
)
def test_cells_of_other_data_are_refused(tmp_path: Path, field: str, changes: dict[str, Any]) -> None:
    other = planted_record("lora r=4", id="b" * 16, **changes)
    with pytest.raises(InputError, match=f"cell 'lora r=4': {field} differs"):
        both(tmp_path, planted_record("lora r=4"), other)


def test_cells_with_other_test_rows_are_refused(tmp_path: Path) -> None:
    options = planted_cell("lora r=4")["options"]
    options = options | {"dataset": options["dataset"] | {"test_rows": 99}}
    other = planted_record("lora r=4", id="b" * 16, options=options)
    with pytest.raises(InputError, match=r"options\.dataset\.test_rows differs: found 12 in A and 99 in B"):
        both(tmp_path, planted_record("lora r=4"), other)


def test_another_device_may_be_compared(tmp_path: Path) -> None:
    options = planted_cell("lora r=4")["options"]
    options = options | {"model": options["model"] | {"device": "cuda"}}
    found = both(
        tmp_path, planted_record("lora r=4"), planted_record("lora r=4", id="b" * 16, options=options)
    )
    assert found.n_paired == 1


def test_label_of_several_cells_cannot_be_paired(tmp_path: Path) -> None:
    twins = [planted_record("twin", id=c * 16) for c in "ab"]
    with pytest.raises(InputError, match="two cells labelled 'twin'"):
        both(tmp_path, twins, planted_record("twin", id="c" * 16))


def test_slower_step_is_a_regression_when_both_ran_alone(tmp_path: Path) -> None:
    slow = planted_record("lora r=4", metrics={"step_seconds_median": 0.03})
    found = both(tmp_path, planted_record("lora r=4"), slow)
    assert [one.metric for one in found.regressions] == ["step_seconds_median"]


def test_step_within_a_fifth_is_the_same(tmp_path: Path) -> None:
    slow = planted_record("lora r=4", metrics={"step_seconds_median": 0.022})
    assert both(tmp_path, planted_record("lora r=4"), slow).regressions == []


def test_times_beside_other_cells_are_not_compared(tmp_path: Path) -> None:
    slow = planted_record("lora r=4", metrics={"step_seconds_median": 0.9}, alone=False)
    found = both(tmp_path, planted_record("lora r=4"), slow)
    assert change(found, "step_seconds_median").note == "other cells ran beside it"
    assert found.regressions == []


def test_times_of_a_resumed_cell_are_not_compared(tmp_path: Path) -> None:
    slow = planted_record("lora r=4", metrics={"step_seconds_median": 0.9}, timing={"resumed_at_steps": [7]})
    found = both(tmp_path, planted_record("lora r=4"), slow)
    assert change(found, "step_seconds_median").note == "it was stopped and resumed"
    assert found.regressions == []


def test_more_parameters_are_a_regression(tmp_path: Path) -> None:
    more = planted_record("lora r=4", metrics={"n_trainable": 199681})
    assert [one.metric for one in both(tmp_path, planted_record("lora r=4"), more).regressions] == [
        "n_trainable"
    ]


def test_terminal_text_names_the_regression(tmp_path: Path) -> None:
    text = to_text(
        both(tmp_path, planted_record("lora r=4", padded=4.0), planted_record("lora r=4", padded=4.4))
    )
    assert "perplexity_padded ↓  4.000  4.400      +10.0 %" in text


def test_markdown_escapes_labels(tmp_path: Path) -> None:
    found = both(tmp_path, planted_record("a|<b>", padded=4.0), planted_record("a|<b>", padded=4.4))
    assert r"a\|&lt;b&gt;" in to_markdown(found)


def test_summary_counts_verdicts(tmp_path: Path) -> None:
    found = both(tmp_path, planted_record("lora r=4", padded=4.0), planted_record("lora r=4", padded=4.4))
    assert summary(found).startswith("1 cells paired: 1 worse")
