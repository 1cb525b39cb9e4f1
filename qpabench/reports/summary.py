"""The report's opening: plain sentences that follow from the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from qpabench.records.record import STATUSES
from qpabench.reports.groups import Context, Difference, Group
from qpabench.reports.markdown import Markdown, escape, lead
from qpabench.reports.metrics import PERPLEXITIES, RANKED_BY
from qpabench.reports.numbers import count, nats, percent, signed_percent, significant
from qpabench.reports.run import Run
from qpabench.reports.statistics import Interval, mean_and_spread

MOST_NAMED = 2
MOST_PLACES = 12
MOST_WARNED = 3
#: a fall by more than this factor reads better as a factor than as a percentage
LARGE_FACTOR = 10
PADDED = "perplexity_padded"
_WORDS = {
    "better": "better than",
    "worse": "worse than",
    "not told apart": "not told apart from",
    "equal": "equal to",
}


def overview(run: Run) -> Markdown:
    """Say how many cells ran and how they ended."""
    n_planned = len(run.records) + len(run.absent)
    found = Counter(record.status for record in run.records)
    parts = [f"{count(found[status])} {status}" for status in STATUSES if found[status]]
    if run.absent:
        parts.append(f"{count(len(run.absent))} without a record")
    cells = "1 cell" if n_planned == 1 else f"{count(n_planned)} cells"
    return escape(f"{cells} planned: {', '.join(parts) or 'none ended'}.")


def sentences(context: Context) -> list[Markdown]:
    """Say what the numbers of one context mean: the best cell, and each kind against base and reference."""
    said: list[Markdown] = []
    ranked = [group for group in context.groups if group.log_perplexity is not None]
    if not ranked:
        return [escape(f"No cell has {RANKED_BY}, so nothing is ranked here.")]
    said.append(_best(context, ranked))
    kinds = dict.fromkeys(group.kind for group in sorted(ranked, key=lambda g: (not g.is_reference, g.kind)))
    for kind in kinds:
        said.extend(_kind(context, kind, [group for group in ranked if group.kind == kind]))
    return said


def warnings(context: Context) -> list[Markdown]:
    """Say what would mislead a reader of the table alone."""
    said = [escape(text) for text in context.warnings]
    worse = [pair for group in context.groups if (pair := _padded_better_text_worse(context, group))]
    for group, padded, masked in worse[:MOST_WARNED]:
        fall = _fall(padded, context.base[PADDED])
        change = f"{significant(context.base[RANKED_BY])} → {significant(masked)}"
        against = context.against_base(group)
        unsure = against is not None and against.verdict == "not told apart"
        note = ", too little for these test rows to tell" if unsure else ""
        said.append(
            escape(
                f"{group.label}: padded fell by {fall} while the text got worse (masked {change}{note}). "
                "By the padded figure alone this would be a gain."
            )
        )
    if len(worse) > MOST_WARNED:
        said.append(escape(f"The same holds for {count(len(worse) - MOST_WARNED)} more, see the table."))
    return said


def runs_note(group: Group) -> str:
    """Say how much a group's runs allow to conclude."""
    return "one run, no inference" if group.n == 1 else f"mean of {group.n} seeds"


def spread_text(values: Sequence[float], write: object = significant) -> str:
    """Write a mean with its standard deviation over seeds where there is one."""
    assert callable(write)
    mean, spread = mean_and_spread(values)
    return str(write(mean)) if spread is None else f"{write(mean)} ± {significant(spread, 2)}"


def interval_text(interval: Interval | None) -> str:
    """Write an interval with what it covers."""
    if interval is None:
        return "no interval: no NLL per token was kept"
    return f"95 % over {interval.n} {interval.over}: {nats(interval.low)} to {nats(interval.high)}"


def _best(context: Context, ranked: Sequence[Group]) -> Markdown:
    best = ranked[0]
    said = f"{best.label}, {spread_text(best.values(RANKED_BY))}"
    against = context.against_base(best)
    if against is not None:
        base = context.base[RANKED_BY]
        change = signed_percent((best.mean(RANKED_BY) or base) / base - 1)
        said += (
            f"; the untrained base has {significant(base)} ({change}; {nats(against.nats)} nats per token, "
        )
        said += f"{interval_text(against.interval)})"
    said += f"; {runs_note(best)}."
    if against is not None and against.nats >= 0:
        said += " No cell beat the untrained base."
    if len(ranked) > 1:
        said += f" It is the best of {count(len(ranked))} on the same test rows: a choice that favours it."
    return lead("Lowest masked perplexity:", said)


def _kind(context: Context, kind: str, groups: Sequence[Group]) -> list[Markdown]:
    said = []
    against_base = [(g, d) for g in groups if (d := context.against_base(g)) is not None]
    if against_base:
        said.append(_verdicts(context, kind, "the untrained base", against_base))
    if groups[0].is_reference:
        return said
    best = {group: found for group in groups if (found := context.best_reference(group)) is not None}
    against_best = [(g, d) for g, other in best.items() if (d := context.against(g, other)) is not None]
    if against_best:
        labels = dict.fromkeys(reference.label for reference in best.values())
        named = f"the best {next(iter(best.values())).kind}"
        which = f" ({labels.popitem()[0]})" if len(labels) == 1 else " of the same protocol"
        said.append(_verdicts(context, kind, named + which, against_best))
    return said


def _verdicts(context: Context, kind: str, other: str, found: Sequence[tuple[Group, Difference]]) -> Markdown:
    if len(found) == 1:
        group, against = found[0]
        how = f"{nats(against.nats)} nats per token, {interval_text(against.interval)}, {runs_note(group)}"
        return lead(kind, f"was {_WORDS[against.verdict]} {other} ({how}).")
    said = []
    for verdict in _WORDS:
        groups = [group for group, against in found if against.verdict == verdict]
        if groups:
            said.append(f"{count(len(groups))} of {count(len(found))} {verdict} ({_named(context, groups)})")
    single = sum(group.n == 1 for group, _ in found)
    note = (
        "; one run each, no inference."
        if single == len(found)
        else f"; {single} with one run."
        if single
        else "."
    )
    return lead(kind, f"against {other}: {'; '.join(said)}{note}")


def _named(context: Context, groups: Sequence[Group]) -> str:
    """Name few cells in full, many by their place in the ranking."""
    if len(groups) <= MOST_NAMED:
        return ", ".join(group.label for group in groups)
    places = [str(context.place(group)) for group in groups[:MOST_PLACES]]
    more = f" and {count(len(groups) - MOST_PLACES)} more" if len(groups) > MOST_PLACES else ""
    return f"places {', '.join(places)}{more}"


def _padded_better_text_worse(context: Context, group: Group) -> tuple[Group, float, float] | None:
    padded, masked = group.mean(PADDED), group.mean(RANKED_BY)
    base_padded, base_masked = context.base.get(PADDED), context.base.get(RANKED_BY)
    if padded is None or masked is None or base_padded is None or base_masked is None:
        return None
    return (group, padded, masked) if padded < base_padded and masked > base_masked else None


def _fall(now: float, before: float) -> str:
    if before >= LARGE_FACTOR * now:
        return f"a factor of {significant(before / now, 3)}"
    return percent((before - now) / before)


def perplexities_of(context: Context) -> list[str]:
    """Return the perplexities that some cell or the base has, in the order in which they are shown."""
    return [n for n in PERPLEXITIES if n in context.base or any(g.values(n) for g in context.groups)]
