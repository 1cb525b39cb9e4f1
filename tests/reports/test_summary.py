"""The opening sentences follow the planted numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted import planted_cell, planted_record, planted_run

from qpabench.reports import summary
from qpabench.reports.run import load_run


def said(root: Path) -> list[str]:
    (context,) = load_run(root).contexts
    return [str(sentence) for sentence in summary.sentences(context)]


def warned(root: Path) -> list[str]:
    (context,) = load_run(root).contexts
    return [str(sentence) for sentence in summary.warnings(context)]


def sentence_on(root: Path, start: str) -> str:
    return next(sentence for sentence in said(root) if sentence.startswith(start))


@pytest.mark.parametrize(("masked", "word"), [(36.0, "better than"), (44.0, "worse than")])
def test_lora_against_the_base_follows_the_numbers(tmp_path: Path, masked: float, word: str) -> None:
    planted_run(tmp_path, planted_record("lora r=4", masked))
    assert f"was {word} the untrained base" in sentence_on(tmp_path, "**lora by direct**")


@pytest.mark.parametrize(("masked", "word"), [(35.0, "better than"), (39.0, "worse than")])
def test_generated_against_direct_follows_the_numbers(tmp_path: Path, masked: float, word: str) -> None:
    planted_run(tmp_path, planted_record("lora r=4", 37.0), planted_record("qpa", masked, generator="qpa"))
    assert f"was {word} the best lora by direct (lora r=4)" in said(tmp_path)[-1]


def test_difference_within_the_text_noise_is_not_told_apart(tmp_path: Path) -> None:
    planted_run(tmp_path, planted_record("lora r=4", 37.0), planted_record("qpa", 37.001, generator="qpa"))
    assert "was not told apart from the best lora by direct" in said(tmp_path)[-1]


def test_without_series_the_sentence_has_no_interval(tmp_path: Path) -> None:
    planted_run(tmp_path, planted_record("lora r=4", 36.0), series=False)
    assert "no interval: no NLL per token was kept" in sentence_on(tmp_path, "**lora by direct**")


def test_best_cell_is_named_with_its_change(tmp_path: Path) -> None:
    planted_run(tmp_path, planted_record("lora r=4", 38.0), planted_record("qpa", 36.0, generator="qpa"))
    best = said(tmp_path)[0]
    assert best.startswith("**Lowest masked perplexity:** qpa, 36.00; the untrained base has 40.00 (−10.0 %")


def test_it_is_said_when_no_cell_beat_the_base(tmp_path: Path) -> None:
    planted_run(tmp_path, planted_record("lora r=4", 41.0))
    assert "No cell beat the untrained base." in said(tmp_path)[0]


def test_one_seed_allows_no_inference(tmp_path: Path) -> None:
    planted_run(tmp_path, planted_record("lora r=4", 38.0))
    assert "one run, no inference" in said(tmp_path)[0]


def test_several_seeds_give_an_interval_over_seeds(tmp_path: Path) -> None:
    options = planted_cell("lora r=4")["options"]
    records = [planted_record("lora r=4", 38.0 + seed / 10, seed=seed, options=options) for seed in (0, 1, 2)]
    planted_run(tmp_path, *records)
    assert "95 % over 3 seeds" in said(tmp_path)[0]


def test_cells_of_one_kind_are_counted(tmp_path: Path) -> None:
    cells = [planted_record(f"qpa {m}", m, generator="qpa") for m in (35.0, 36.0, 58.0)]
    planted_run(tmp_path, *cells)
    text = sentence_on(tmp_path, "**lora by qpa** against the untrained base")
    assert "2 of 3 better (qpa 35.0, qpa 36.0); 1 of 3 worse (qpa 58.0)" in text


def test_padded_better_but_text_worse_is_a_warning(tmp_path: Path) -> None:
    planted_run(tmp_path, planted_record("qpa", 58.2, 300.0, generator="qpa"))
    assert warned(tmp_path) == [
        "qpa: padded fell by a factor of 100 while the text got worse (masked 40.00 → 58.20). "
        "By the padded figure alone this would be a gain."
    ]


def test_padded_better_and_text_better_is_no_warning(tmp_path: Path) -> None:
    planted_run(tmp_path, planted_record("qpa", 36.0, 300.0, generator="qpa"))
    assert warned(tmp_path) == []


def test_reference_of_the_same_protocol_is_preferred(tmp_path: Path) -> None:
    planted_run(
        tmp_path,
        planted_record("lora paper", 36.0, protocol="paper-text"),
        planted_record("lora released", 37.0),
        planted_record("qpa", 35.0, generator="qpa"),
    )
    assert "(lora released)" in said(tmp_path)[-1]
