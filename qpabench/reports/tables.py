"""The report's tables, one function each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qpabench.records.record import Record
from qpabench.reports import circuits
from qpabench.reports.groups import Context, Difference, Group, alone, canonical
from qpabench.reports.markdown import Markdown, escape, join, link, table
from qpabench.reports.metrics import BASE_PREFIX, PERPLEXITIES, metric
from qpabench.reports.numbers import count, nats, of_kind, significant
from qpabench.reports.run import Run
from qpabench.reports.summary import perplexities_of, spread_text

#: cells whose time can't be compared carry this
NOT_ALONE = "†"
LEDGER = (
    "n_trainable",
    "n_free",
    "n_theta",
    "n_mapping",
    "n_generated",
    "n_qubits",
    "n_layers",
    "n_chunks",
    "chunk_size",
    "circuits_per_step",
)
#: said once for each context, under "How this was measured"
TEXT = ("tokens_test", "padding_share_test")
TIMES = (
    "step_seconds_median",
    "train_seconds",
    "eval_seconds",
    "peak_memory_bytes",
)


def ranking(context: Context) -> Markdown:
    """Cells and the untrained base by masked NLL, every perplexity side by side."""
    names = perplexities_of(context)
    several = any(group.n > 1 for group in context.groups)
    with_trainable = any(group.counted("n_trainable") is not None for group in context.groups)
    header = ["", "cell", *(["trainable"] if with_trainable else []), *(metric(n).title for n in names)]
    header += ["NLL against base", "against best direct", *(["runs"] if several else []), "record"]
    rows: list[tuple[float, list[object]]] = []
    place = 0
    for group in context.groups:
        place += group.log_perplexity is not None
        row: list[object] = [place if group.log_perplexity is not None else "", group.label]
        row += [_counted(group, "n_trainable")] if with_trainable else []
        row += [_over_seeds(group, name) for name in names]
        best = context.best_reference(group)
        row += [
            _difference_text(context.against_base(group)),
            _difference_text(context.against(group, best)) if best else "",
        ]
        row += [str(group.n)] if several else []
        row += [records_of(group)]
        rows.append((group.log_perplexity if group.log_perplexity is not None else float("inf"), row))
    base_row: list[object] = ["", Markdown("*untrained base*"), *(["0"] if with_trainable else [])]
    base_row += [of_kind(metric(n).kind, context.base[n]) if n in context.base else "" for n in names]
    base_row += ["", "", *([""] if several else []), ""]
    base_nats = context.base_nats
    place_of_base = sum(key <= base_nats for key, _ in rows) if base_nats is not None else len(rows)
    ordered = [row for _, row in rows]
    ordered.insert(place_of_base, base_row)
    n_right = len(header) - 1
    return table(header, ordered, [True, False, *[True] * (n_right - 2), False])


def ledger(context: Context) -> Markdown:
    """What each cell trains and generates."""
    names = [n for n in LEDGER if any(group.counted(n) is not None for group in context.groups)]
    header = ["cell", *(metric(name).title for name in names)]
    rows = [[group.label, *(_counted(group, name) for name in names)] for group in context.groups]
    return table(header, rows, [False, *[True] * len(names)])


def equal_budget(context: Context) -> Markdown | None:
    """Each generated cell beside the direct cell of the same target nearest to it in trainable parameters."""
    rows = []
    for group in context.groups:
        other = context.nearest_reference(group)
        if other is None:
            continue
        against = context.against(group, other)
        rows.append(
            [
                group.label,
                _counted(group, "n_trainable"),
                other.label,
                _counted(other, "n_trainable"),
                _difference_text(against),
                against.verdict if against else "",
            ]
        )
    header = ["cell", "trainable", "nearest direct cell", "its trainable", "NLL against it", "cell is"]
    return table(header, rows, [False, True, False, True, True, False]) if rows else None


def times(context: Context) -> Markdown | None:
    """Times and memory; a ratio only between like steps on the same machine, which each run had to itself."""
    names = [n for n in TIMES if any(group.values(n) for group in context.groups)]
    if not names:
        return None
    timed = names[0] == TIMES[0]
    header = ["cell", *(metric(n).title for n in names), *(["step / nearest direct step"] if timed else [])]
    rows = []
    for group in context.groups:
        row: list[object] = [group.label if group.alone else f"{group.label} {NOT_ALONE}"]
        row += [_over_seeds(group, name) for name in names]
        rows.append([*row, _step_ratio(context, group)] if timed else row)
    return table(header, rows, [False, *[True] * (len(header) - 1)])


def other_metrics(context: Context) -> Markdown | None:
    """Whatever else was measured, so that no plugin's metric is lost."""
    shown = {*PERPLEXITIES, *LEDGER, *TIMES, *TEXT, *circuits.COLUMNS}
    found = {n for group in context.groups for record in group.records for n in record.metrics}
    names = sorted(n for n in found - shown if not n.startswith(BASE_PREFIX))
    if not names:
        return None
    header = ["cell", *(metric(name).title for name in names)]
    rows = [[group.label, *(_over_seeds(group, name) for name in names)] for group in context.groups]
    return table(header, rows, [False, *[True] * len(names)])


def not_ok(run: Run) -> Markdown | None:
    """Every planned cell that has no numbers, and why."""
    rows: list[list[object]] = [
        [record.label, record.status, record.reason, link("record", f"records/{record.id}.json")]
        for record in run.named
        if record.status != "ok"
    ]
    rows += [[cell_id, "no record", note, ""] for cell_id, note in run.absent]
    return table(["cell", "status", "reason", "record"], rows) if rows else None


def collapsed(
    records: Sequence[Record], values: Sequence[Mapping[str, object]], total: int
) -> Markdown | None:
    """One row a setting: its value if all cells agree, else each value with how many cells have it.

    Args:
        records: the records the values belong to, for naming cells.
        values: setting -> value, one mapping a record.
        total: how many cells there are.
    """
    rows: list[list[object]] = []
    for key in dict.fromkeys(key for some in values for key in some):
        cells: dict[str, list[str]] = {}
        for record, some in zip(records, values, strict=True):
            if key in some:
                cells.setdefault(_shown(key, some[key]), []).append(record.label)
        if set(cells) == {""}:
            continue
        if len(cells) == 1 and len(next(iter(cells.values()))) == total:
            rows.append([key, next(iter(cells))])
        else:
            rows.append(
                [key, join("; ", [_with_cells(v, labels, total) for v, labels in sorted(cells.items())])]
            )
    return table(["setting", "value"], rows) if rows else None


def records_of(group: Group) -> Markdown:
    """Link to the record of each run."""
    names = ["record"] if group.n == 1 else [f"seed {record.cell.get('seed')}" for record in group.records]
    links = [link(n, f"records/{r.id}.json") for n, r in zip(names, group.records, strict=True)]
    return join(" ", links)


def _with_cells(value: str, labels: Sequence[str], total: int) -> Markdown:
    unique = list(dict.fromkeys(labels))
    if len(unique) <= 2:
        return Markdown(f"{escape(value)} ({escape(', '.join(unique))})")
    return Markdown(f"{escape(value)} ({count(len(labels))} of {count(total)} cells)")


def _shown(key: str, value: object) -> str:
    if value is None or value == {} or value == []:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        kind = metric(key.rpartition(".")[2]).kind
        return of_kind(kind, value) if kind == "bytes" else f"{value:.6g}" if value % 1 else str(value)
    return value if isinstance(value, str) else canonical(value)


def _counted(group: Group, name: str) -> str:
    value = group.counted(name)
    return "" if value is None else count(value)


def _over_seeds(group: Group, name: str) -> str:
    values = group.values(name)
    kind = metric(name).kind
    if not values:
        return ""
    if kind in ("seconds", "bytes", "share", "count", "parameters") and len(set(values)) == 1:
        return of_kind(kind, values[0])
    if kind in ("seconds", "bytes", "share"):
        low, high = of_kind(kind, min(values)), of_kind(kind, max(values))
        return low if low == high else f"{low} to {high}"
    return spread_text(values, lambda value: of_kind(kind, value))


def _difference_text(against: Difference | None) -> str:
    if against is None:
        return ""
    text = nats(against.nats)
    if against.interval is None:
        return text
    return f"{text} ({nats(against.interval.low)} to {nats(against.interval.high)})"


def _step_ratio(context: Context, group: Group) -> str:
    if not group.alone:
        return ""
    other, own = context.nearest_reference(group), group.mean(TIMES[0])
    if (
        other is None
        or own is None
        or not other.alone
        or any(other.trained(key) != group.trained(key) for key in ("loss", "batch_size"))
        or not _same_conditions(group.records[0], other.records[0])
    ):
        return ""
    theirs = other.mean(TIMES[0])
    return significant(own / theirs, 3) if theirs else ""


def _same_conditions(a: Record, b: Record) -> bool:
    keys = ("hardware", "threads", "loops", "head")
    return all(a.provenance.get(k) == b.provenance.get(k) for k in keys) and alone(a) and alone(b)
