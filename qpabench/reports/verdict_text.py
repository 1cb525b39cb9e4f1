"""``verdict.md``: one sentence a question, computed, and every number it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qpabench.reports.choices import Choice
from qpabench.reports.inference import ALPHA, Estimate
from qpabench.reports.markdown import Markdown, escape, join, lead, render, table
from qpabench.reports.numbers import MINUS, count, nats, seconds, significant
from qpabench.reports.run import Run
from qpabench.reports.tables import records_of
from qpabench.reports.verdict import Comparison, Family, Method, Verdict, base_nats_of, nats_of

_RELATION = {
    "better": "better than",
    "worse": "worse than",
    "equivalent": "equivalent to",
    "undecided": "neither told from nor shown equivalent to",
    "no inference": "not compared with",
}
MOST_LINKED_PAIRS = 2
_COMPARED = (
    "against",
    "differs in",
    "trainable",
    "its trainable",
    "NLL, method − other",
    "95 % interval",
    "p, no difference",
    "p, beyond the margin",
    "smallest effect",
    "outcome",
    "records",
)


def verdict_markdown(
    run: Run,
    verdict: Verdict,
    choices: Sequence[tuple[str, Sequence[Choice]]],
    drawn: Mapping[str, Markdown],
) -> str:
    """Return the text of ``verdict.md``.

    Args:
        run: for the title.
        verdict: what was decided.
        choices: for each context its title and design choices.
        drawn: figures ready to stand in the text, ``forest`` and ``pareto``.
    """
    return render(
        "verdict.md.j2",
        {
            "title": run.manifest.get("title") or run.manifest.get("suite") or "Verdict",
            "margin": f"{verdict.margin_nats:g}",
            "shared": run.shared,
            "usual": run.usual,
            "families": [
                {
                    "name": family.name,
                    "sentence": family_sentence(family),
                    "comparisons": [comparison_sentence(one) for one in family.comparisons],
                    "method": _method(family.method, verdict.margin_nats),
                    "table": _table(family),
                    "records": _records(family.method),
                }
                for family in verdict.families
            ],
            "choices": [(title, _choices(found)) for title, found in choices if found],
            "forest": drawn.get("forest"),
            "pareto": drawn.get("pareto"),
        },
    )


def family_sentence(family: Family) -> Markdown:
    """Say in one sentence what a family's comparisons come to."""
    said = []
    for outcome, relation in _RELATION.items():
        others = [one.other.name for one in family.comparisons if one.outcome == outcome]
        if others and outcome != "no inference":
            said.append(f"{relation} {_listed(others)}")
    silent = [one for one in family.comparisons if one.outcome == "no inference"]
    if silent:
        notes = dict.fromkeys(one.note for one in silent)
        said.append(f"not compared with {_listed([one.other.name for one in silent])} ({'; '.join(notes)})")
    return lead(f"{family.name}:", f"{family.method.name} is {'; '.join(said)}.")


def comparison_sentence(one: Comparison) -> Markdown:
    """Say how one comparison came out, by how much, and on how much it rests."""
    found = one.estimate
    if found is None:
        return escape(f"{one.other.name}: not compared, {one.note}.")
    parts = [nats(found.nats) + " nats per token"]
    if found.interval is not None:
        parts.append(f"95 % interval {_interval(found)}")
    parts.append(_rests_on(found))
    how = one.other.name if one.note else f"{_RELATION[one.outcome].capitalize()} {one.other.name}"
    ending = f"; {one.note}" if one.note else ""
    if one.outcome == "undecided":
        ending = f"; a difference below {_effect(found)} nats would most likely go unseen"
    elif one.outcome == "equivalent" and (one.p_difference or 1.0) <= ALPHA:
        ending = "; told from zero, yet too small to matter"
    return escape(f"{how} {_budget(one)}: {', '.join(parts)}{ending}.")


def _budget(one: Comparison) -> str:
    found = one.budgets
    if found is None:
        return ""
    numbers = f"{count(found[0])} against {count(found[1])} trainable numbers"
    return f"at equal budget ({numbers})" if one.equal_budget else f"at other budgets ({numbers})"


def _rests_on(found: Estimate) -> str:
    seeds = "1 seed" if found.n_seeds == 1 else f"{found.n_seeds} seeds"
    return f"{seeds}, {count(found.n_rows)} test rows, {count(found.n_tokens)} tokens each"


def _method(method: Method, margin_nats: float) -> Markdown:
    if method.group is None:
        return lead(f"{method.label}:", f"no numbers, {method.lacking}.")
    values = nats_of(method.group)
    mean = sum(values) / len(values) if values else float("nan")
    said = f"{significant(mean)} nats per token, mean of {len(values)}"
    base = base_nats_of(method.group)
    if base is not None:
        said += f"; untrained base {significant(base)}"
    if method.n_tried > 1:
        said += f"; learning rate chosen among {method.n_tried} on the validation rows"
        spent = sum(record.metrics.get("train_seconds", 0.0) for record in method.planned)
        said += f", {seconds(spent)} of training in all {len(method.planned)} runs"
    said += "."
    if base is not None and margin_nats > abs(base - mean) / 2:
        said += (
            f" ⚠ The margin of {margin_nats:g} is more than half of what lies between this method and the "
            f"untrained base ({significant(abs(base - mean), 2)} nats): equivalence within it says little."
        )
    return lead(f"{method.label}:", said)


def _records(method: Method) -> Markdown | None:
    return records_of(method.group) if method.group is not None else None


def _table(family: Family) -> Markdown:
    rows = [_row(one) for one in family.comparisons]
    return table(_COMPARED, rows, [False, False, *[True] * 7, False, False])


def _row(one: Comparison) -> list[object]:
    found, budgets = one.estimate, one.budgets
    label = one.other.name
    if one.other.n_tried > 1:
        label += f" (learning rate: best of {one.other.n_tried})"
    return [
        label,
        ", ".join(one.differs),
        *((count(budgets[0]), count(budgets[1])) if budgets else ("", "")),
        nats(found.nats) if found else "",
        _interval(found) if found else "",
        _p(one.p_difference),
        _p(one.p_equivalence),
        _effect(found) if found else "",
        one.outcome if not one.note else one.note,
        _records(one.other) or "",
    ]


def _choices(found: Sequence[Choice]) -> Markdown:
    header = (
        "choice",
        "from",
        "to",
        "NLL, to − from",
        "95 % interval",
        "outcome",
        "trainable",
        "cells compared",
    )
    rows = []
    for one in found:
        effect = one.estimate
        budgets = [(a.counted("n_trainable"), b.counted("n_trainable")) for a, b in one.pairs]
        same = all(a == b for a, b in budgets)
        rows.append(
            [
                one.option,
                one.usual,
                one.other,
                nats(effect.nats) if effect else "",
                _interval(effect) if effect else "",
                one.outcome if effect else "other rows",
                "the same" if same else "differs",
                _pairs(one),
            ]
        )
    return table(header, rows, [False, False, False, True, True, False, False, False])


def _pairs(one: Choice) -> Markdown:
    """Link to the records of few pairs; of many say which generators they belong to."""
    if len(one.pairs) <= MOST_LINKED_PAIRS:
        return join("; ", [Markdown(f"{records_of(b)} − {records_of(a)}") for a, b in one.pairs])
    names = dict.fromkeys(str(a.cell.get("generator")) for a, _ in one.pairs)
    return escape(f"{len(one.pairs)} pairs: {_listed(list(names))}")


def _interval(found: Estimate) -> str:
    if found.interval is None:
        return ""
    return f"{nats(found.interval[0])} to {nats(found.interval[1])}"


def _effect(found: Estimate) -> str:
    return "" if found.smallest_effect is None else f"{found.smallest_effect:.4f}".replace("-", MINUS)


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _listed(names: Sequence[str]) -> str:
    *most, last = dict.fromkeys(names)
    return f"{', '.join(most)} and {last}" if most else last
