"""Learning rates chosen on the validation split alone."""

from typing import Any

import pytest

from qpabench.records.record import Record, Status
from qpabench.records.selection import selections


def record(
    rate: float,
    validation: float | None,
    *,
    seed: int = 0,
    test: float = 30.0,
    status: Status = "ok",
    rank: int = 4,
    theta: float | None = None,
) -> Record:
    train = {"learning_rate": rate, "learning_rate_theta": theta, "epochs": 3}
    name = f"{rate}/{theta}/{seed}/{rank}"
    cell: dict[str, Any] = {"id": name, "label": name, "seed": seed, "target": "lora"}
    cell["options"] = {"target": {"rank": rank}, "train": train}
    metrics = {"perplexity_masked": test}
    if validation is not None:
        metrics["validation_perplexity_masked"] = validation
    return Record(cell, status, metrics=metrics if status == "ok" else {})


def chosen_rates(records: list[Record], wanted: set[str] | None = None) -> list[float | None]:
    found = selections(records, {r.id for r in records} if wanted is None else wanted)
    return [None if one.chosen is None else one.chosen.rates[0] for one in found]


def test_lowest_validation_perplexity_is_selected_whatever_the_test_says() -> None:
    records = [record(1e-3, 20.0, test=99.0), record(1e-2, 25.0, test=10.0), record(1e-4, 22.0)]
    assert chosen_rates(records) == [1e-3]


def test_cells_that_differ_otherwise_are_selected_apart() -> None:
    records = [record(1e-3, 20.0), record(1e-2, 19.0), record(1e-3, 18.0, rank=8), record(1e-2, 21.0, rank=8)]
    assert chosen_rates(records) == [1e-2, 1e-3]


def test_rate_of_theta_is_a_candidate_too() -> None:
    records = [record(1e-3, 20.0), record(1e-3, 19.0, theta=1e-1)]
    [found] = selections(records, {r.id for r in records})
    assert found.chosen is not None
    assert found.chosen.rates == (1e-3, 1e-1)


def test_seeds_are_averaged_in_nats() -> None:
    records = [
        record(1e-3, 10.0),
        record(1e-3, 1000.0, seed=1),
        record(1e-2, 90.0),
        record(1e-2, 90.0, seed=1),
    ]
    [found] = selections(records, {r.id for r in records})
    assert found.chosen is found.candidates[1]
    assert found.candidates[0].validation == pytest.approx(100.0)


def test_candidate_that_failed_on_a_seed_is_listed_not_selected() -> None:
    records = [
        record(1e-3, 10.0),
        record(1e-3, None, seed=1, status="failed"),
        record(1e-2, 90.0),
        record(1e-2, 90.0, seed=1),
    ]
    [found] = selections(records, {r.id for r in records})
    assert [one.validation is None for one in found.candidates] == [True, False]
    assert found.chosen is found.candidates[1]


def test_without_validation_figures_none_is_selected() -> None:
    assert chosen_rates([record(1e-3, None), record(1e-2, None)]) == [None]


def test_cells_not_asked_for_are_left_out() -> None:
    records = [record(1e-3, 20.0), record(1e-2, 19.0)]
    assert chosen_rates(records, {records[0].id}) == [1e-3]
    assert chosen_rates(records, set()) == []
