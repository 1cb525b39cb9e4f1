"""How the numbers were measured: protocols in words, settings, provenance."""

from __future__ import annotations

from collections.abc import Mapping

from qpabench.records.record import Record
from qpabench.reports.groups import Context, flat
from qpabench.reports.markdown import Markdown, lead
from qpabench.reports.metrics import metric
from qpabench.reports.numbers import count, percent
from qpabench.reports.run import Run
from qpabench.reports.summary import perplexities_of
from qpabench.reports.tables import collapsed

_PROTOCOLS = {
    "released-code": "as the script does that the paper's authors released: padding is scored in training, "
    "basis strings are drawn anew in every pass, scaled and centred features, a mapping without activation.",
    "paper-text": "as the paper's text says: basis states in index order, raw probabilities.",
}
_PARTS = ("dataset", "evaluate", "train", "model", "target", "generator", "backend")


def protocols(run: Run) -> list[Markdown]:
    """Name each protocol used and say what it stands for."""
    used = dict.fromkeys(
        str(record.cell["protocol"]) for record in run.records if record.cell.get("protocol")
    )
    known = "every option is listed below and in each record."
    return [lead(f"{name}:", _PROTOCOLS.get(name, known)) for name in used]


def perplexities(run: Run) -> list[Markdown]:
    """Explain each perplexity that the report shows."""
    names = dict.fromkeys(name for context in run.contexts for name in perplexities_of(context))
    return [lead(f"{metric(n).title}:", metric(n).meaning) for n in names]


def text_scored(context: Context) -> Markdown | None:
    """Say how much text was scored and how much of the rows is padding."""
    parts = []
    tokens = sorted({v for group in context.groups for v in group.values("tokens_test")})
    shares = sorted({v for group in context.groups for v in group.values("padding_share_test")})
    if tokens:
        parts.append(f"{_range(count(tokens[0]), count(tokens[-1]))} test tokens scored")
    if shares:
        parts.append(
            f"{_range(percent(shares[0]), percent(shares[-1]))} of the positions of the test rows are padding"
        )
    return lead(f"{context.title}:", ", ".join(parts) + ".") if parts else None


def settings(run: Run) -> Markdown | None:
    """Table of every option and of what was really used."""
    records = list(run.named)
    return collapsed(records, [_settings(record) for record in records], len(records))


def provenance(run: Run) -> Markdown | None:
    """Table of versions, commit, hardware and threads; identical values once."""
    records = [record for record in run.named if record.provenance]
    values = [_provenance(record) for record in records]
    return collapsed(records, values, len(records))


def _settings(record: Record) -> dict[str, object]:
    cell = record.cell
    options = cell.get("options")
    options = options if isinstance(options, Mapping) else {}
    chosen = {key: cell.get(key) for key in ("model", "dataset", "protocol", "ansatz", "seed")}
    for part in _PARTS:
        chosen |= flat(options.get(part), part)
    chosen |= flat(cell.get("data") or {}, "fingerprint")
    chosen |= flat(cell.get("behaviour_versions") or {}, "behaviour version")
    chosen |= flat(record.provenance.get("data") or {}, "data used")
    chosen["ran alone"] = record.timing.get("alone")
    chosen["resumed at steps"] = record.timing.get("resumed_at_steps")
    return {key: value for key, value in chosen.items() if value is not None}


def _provenance(record: Record) -> dict[str, object]:
    found = {k: v for k, v in record.provenance.items() if k not in ("seed", "protocol", "data")}
    return {key: value for key, value in flat(found).items() if value is not None}


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
