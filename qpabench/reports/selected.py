"""The section on learning rates selected on the validation split."""

from __future__ import annotations

import math

from qpabench.records.selection import RATES, Candidate, selections
from qpabench.reports.markdown import Markdown, join, link, table
from qpabench.reports.metrics import RANKED_BY
from qpabench.reports.numbers import count, significant
from qpabench.reports.run import Run

SELECTED = "selected"


def on_validation(run: Run) -> Markdown | None:
    """List every candidate with its validation figure and mark the one selected; None without any."""
    wanted = run.manifest.get("select")
    ids = wanted.get("validation", []) if isinstance(wanted, dict) else []
    found = selections(run.records, set(ids))
    if not found:
        return None
    with_theta = any(one.rates[1] is not None for selection in found for one in selection.candidates)
    header = ["", "cell", "learning rate", *(["of the angles"] if with_theta else [])]
    header += ["validation, masked", "test, masked", "", "record"]
    rows: list[list[object]] = []
    for number, selection in enumerate(found, start=1):
        for one in selection.candidates:
            rates = [f"{rate:g}" if rate is not None else "" for rate in one.rates[: len(RATES)]]
            row: list[object] = [count(number), one.records[0].label]
            row += rates if with_theta else rates[:1]
            row += [_validation(one), _test(one), SELECTED if one is selection.chosen else ""]
            rows.append([*row, _records(one)])
    n_right = len(header) - 4
    return table(header, rows, [True, False, *[True] * n_right, False, False])


def _validation(one: Candidate) -> str:
    if one.validation is not None:
        return significant(one.validation)
    bad = [record.status for record in one.records if record.status != "ok"]
    return bad[0] if bad else "not measured"


def _test(one: Candidate) -> str:
    values = [r.metrics[RANKED_BY] for r in one.records if r.metrics.get(RANKED_BY, 0) > 0]
    return significant(math.exp(sum(map(math.log, values)) / len(values))) if values else ""


def _records(one: Candidate) -> Markdown:
    names = ["record"] if len(one.records) == 1 else [f"seed {r.cell.get('seed')}" for r in one.records]
    return join(" ", [link(n, f"records/{r.id}.json") for n, r in zip(names, one.records, strict=True)])
