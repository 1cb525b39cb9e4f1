"""The verdict's sentences follow from planted records: a real effect, none, and too few runs to say."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from planted import planted_failure, planted_id, planted_record, planted_run

from qpabench.errors import InputError
from qpabench.records.record import Record
from qpabench.reports.inference import holm
from qpabench.reports.report import write_report
from qpabench.reports.run import load_run
from qpabench.reports.verdict import decide
from qpabench.reports.verdict_files import verdict_files
from qpabench.reports.verdict_text import comparison_sentence, family_sentence

SEEDS = range(5)
MARGIN = 0.01
#: what seeds alone change, nats
OF_SEED = (0.0, 0.0012, -0.0009, 0.0005, -0.0006)


def runs(label: str, masked: float, seeds: Any = SEEDS, **changes: Any) -> list[Record]:
    """Runs of one method; their seeds move the NLL a little."""
    return [
        planted_record(
            label, masked * math.exp(OF_SEED[seed % 5] * (1 + len(label) % 3)), seed=seed, **changes
        )
        for seed in seeds
    ]


def asked(method: str, *others: str, seeds: Any = SEEDS, margin: float = MARGIN) -> dict[str, Any]:
    ids = {label: [planted_id(label, seed) for seed in seeds] for label in (method, *others)}
    family = {"name": "Does it matter?", "cell": ids[method], "against": [ids[label] for label in others]}
    return {"margin_nats": margin, "families": [family]}


def verdict_of(root: Path, records: list[Record], verdict: dict[str, Any], **manifest: Any) -> Any:
    planted_run(root, *records, verdict=verdict, **manifest)
    found = decide(load_run(root))
    assert found is not None
    return found


def only(found: Any) -> Any:
    (family,) = found.families
    (comparison,) = family.comparisons
    return comparison


def test_a_real_effect_is_told_with_its_size(tmp_path: Path) -> None:
    records = [*runs("qpa", 35.0, generator="qpa"), *runs("control", 38.0)]
    found = only(verdict_of(tmp_path, records, asked("qpa", "control")))
    assert found.outcome == "better"
    assert found.estimate.nats == pytest.approx(math.log(35 / 38), abs=0.003)
    said = str(comparison_sentence(found))
    assert said.startswith("Better than direct at other budgets (106,264 against 199,680 trainable numbers)")
    assert "5 seeds, 12 test rows, 240 tokens each" in said


def test_the_other_direction_is_worse(tmp_path: Path) -> None:
    records = [*runs("qpa", 38.0), *runs("control", 35.0)]
    found = verdict_of(tmp_path, records, asked("qpa", "control"))
    assert only(found).outcome == "worse"
    assert "worse than control" in str(family_sentence(found.families[0]))


def test_no_effect_within_the_margin_is_equivalent(tmp_path: Path) -> None:
    records = [*runs("qpa", 36.0), *runs("control", 36.0)]
    found = only(verdict_of(tmp_path, records, asked("qpa", "control", margin=0.05)))
    assert found.outcome == "equivalent"
    low, high = found.estimate.interval
    assert -0.05 < low < 0 < high < 0.05
    assert "Equivalent to control at equal budget" in str(comparison_sentence(found))


def test_no_effect_with_a_margin_too_narrow_is_undecided(tmp_path: Path) -> None:
    records = [*runs("qpa", 36.0), *runs("control", 36.0)]
    found = only(verdict_of(tmp_path, records, asked("qpa", "control", margin=1e-5)))
    assert found.outcome == "undecided"
    assert "would most likely go unseen" in str(comparison_sentence(found))


@pytest.mark.parametrize(("n_seeds", "said"), [(1, "one run, no inference"), (2, "2 runs, no inference")])
def test_too_few_seeds_give_no_inference(tmp_path: Path, n_seeds: int, said: str) -> None:
    seeds = range(n_seeds)
    records = [*runs("qpa", 30.0, seeds), *runs("control", 38.0, seeds)]
    planted_run(tmp_path, *records, verdict=asked("qpa", "control", seeds=seeds))
    found = only(decide(load_run(tmp_path)))
    assert found.outcome == "no inference"
    assert found.p_difference is None
    text = verdict_files(load_run(tmp_path))["verdict.md"].decode()
    assert said in text
    assert not re.search(r"\| (<|0\.\d{4}) ", text)  # no p-value anywhere
    assert "−0.23" in text  # the difference itself stands


def test_only_shared_seeds_are_paired(tmp_path: Path) -> None:
    records = [*runs("qpa", 35.0, range(5)), *runs("control", 38.0, range(1, 5))]
    assert only(verdict_of(tmp_path, records, asked("qpa", "control"))).estimate.n_seeds == 4


def test_a_family_is_corrected_for_its_size(tmp_path: Path) -> None:
    labels = [f"control {letter}" for letter in "abcdef"]
    records = runs("qpa", 36.0) + [one for label in labels for one in runs(label, 36.05)]
    alone = only(verdict_of(tmp_path / "one", records, asked("qpa", labels[0])))
    (family,) = verdict_of(tmp_path / "all", records, asked("qpa", *labels)).families
    first = family.comparisons[0]
    assert first.estimate == alone.estimate
    assert first.p_difference >= alone.p_difference
    assert first.p_equivalence >= alone.p_equivalence
    raw = [one.estimate.p_difference for one in family.comparisons]
    assert 0 < min(raw) < 1
    assert [one.p_difference for one in family.comparisons] == holm(raw)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": "another-model"}, "model"),
        ({"protocol": "paper-text"}, "protocol"),
        ({"data": {"dataset": "sha256:other"}}, r"data\.dataset"),
    ],
)
def test_cells_of_other_data_protocol_or_model_are_refused(
    tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    records = [*runs("qpa", 36.0), *runs("control", 36.0, **changes)]
    planted_run(tmp_path, *records, verdict=asked("qpa", "control"))
    with pytest.raises(InputError, match=rf"differ in {field}: found .* expected the same"):
        decide(load_run(tmp_path))


def test_a_control_without_numbers_says_why(tmp_path: Path) -> None:
    failed = [planted_failure("control", "unsupported", "a budget can't be met", seed=seed) for seed in SEEDS]
    found = verdict_of(tmp_path, [*runs("qpa", 36.0), *failed], asked("qpa", "control"))
    assert "unsupported: a budget can't be met" in str(comparison_sentence(only(found)))
    assert "not compared with control" in str(family_sentence(found.families[0]))


def test_the_learning_rate_is_the_one_chosen_on_validation(tmp_path: Path) -> None:
    """The rate that is best on the test rows isn't the one chosen."""
    records, ids = [], []
    for rate, masked, validation in ((1e-3, 33.0, 40.0), (1e-2, 36.0, 35.0)):
        for seed in SEEDS:
            label = f"qpa lr {rate}"
            record = planted_record(
                label, masked, seed=seed, metrics={"validation_perplexity_masked": validation}
            )
            record.cell["options"]["train"] = {"learning_rate": rate}
            records.append(record)
            ids.append(record.id)
    verdict = asked("control", "control")
    verdict["families"][0] |= {"cell": ids, "against": [[planted_id("control", seed) for seed in SEEDS]]}
    records += runs("control", 36.0)
    found = verdict_of(tmp_path, records, verdict, select={"validation": ids})
    comparison = only(found)
    assert comparison.method.label == "qpa lr 0.01"
    assert comparison.method.n_tried == 2
    assert comparison.estimate.nats == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("margin", "warned"), [(0.01, False), (0.06, True)])
def test_a_margin_as_wide_as_the_gain_is_warned_of(tmp_path: Path, margin: float, warned: bool) -> None:
    """ln(40 / 36) is 0.105 nats."""
    records = [*runs("qpa", 36.0), *runs("control", 36.0)]
    planted_run(tmp_path, *records, verdict=asked("qpa", "control", margin=margin))
    text = verdict_files(load_run(tmp_path))["verdict.md"].decode()
    assert ("equivalence within it says little" in text) is warned


def test_every_number_of_the_table_leads_to_records(tmp_path: Path) -> None:
    records = [*runs("qpa", 35.0, generator="qpa"), *runs("control", 38.0)]
    planted_run(tmp_path, *records, verdict=asked("qpa", "control"))
    written = {path.relative_to(tmp_path).as_posix() for path in write_report(tmp_path)}
    assert {"verdict.md", "figures/forest.svg", "figures/pareto.svg"} <= written
    text = (tmp_path / "verdict.md").read_text()
    links = re.findall(r"\((records/[0-9a-f]{16}\.json)\)", text)
    assert set(links) == {f"records/{record.id}.json" for record in records}
    assert all((tmp_path / link).is_file() for link in links)
    assert "verdict.md" in (tmp_path / "report.md").read_text()


def test_without_questions_there_is_no_verdict(tmp_path: Path) -> None:
    records = [*runs("qpa", 35.0, generator="qpa"), *runs("control", 38.0)]
    planted_run(tmp_path, *records, verdict=asked("qpa", "control"))
    write_report(tmp_path)
    planted_run(tmp_path, *records)
    write_report(tmp_path)
    assert not (tmp_path / "verdict.md").exists()
    assert not list((tmp_path / "figures").glob("forest*"))


def test_a_design_choice_is_a_row_with_its_effect(tmp_path: Path) -> None:
    def of(start: str, masked: float) -> list[Record]:
        made = runs(f"qpa {start}", masked, generator="qpa")
        for record in made:
            record.cell["options"]["generator"] = {"start": start}
            record.cell["options"]["train"] = {}
        return made

    records = [*of("random", 45.0), *of("zero", 36.0), *runs("control", 38.0)]
    planted_run(tmp_path, *records, verdict=asked("qpa zero", "control"))
    text = verdict_files(load_run(tmp_path))["verdict.md"].decode()
    (row,) = [line for line in text.splitlines() if line.startswith("| generator.start")]
    assert "| random | zero | −0.2" in row
    assert "| better | the same |" in row


def test_what_all_cells_share_is_said_where_names_leave_it_out(tmp_path: Path) -> None:
    labels = ("lora · qpa · some-model", "lora · direct · some-model")
    records = [*runs(labels[0], 35.0, generator="qpa"), *runs(labels[1], 38.0)]
    write_report(planted_run(tmp_path, *records, verdict=asked(*labels)))
    text = (tmp_path / "verdict.md").read_text(encoding="utf-8")
    assert "left out of their names below: lora, some-model." in text
