"""Short names: a cell's label without what all cells of a report share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from qpabench.records.record import Record

#: what stands between the parts of a label
PART = " · "
_BETWEEN_ITEMS = re.compile(r", (?![^(\[]*[)\]])")  # not inside brackets
_TRAINING = "lr "

Part = tuple[str, tuple[str, ...]]  # a head, empty for training, and its items


def without_shared(
    records: Sequence[Record],
) -> tuple[tuple[Record, ...], tuple[str, ...], tuple[str, ...]]:
    """Shorten labels to what tells cells apart, if that leaves something of each.

    Args:
        records: of one report.

    Returns:
        The records with short labels; what all of them share; the options that a generator has wherever it
        occurs, each as ``qpa(start=zero, chunk_size=2048)``.
    """
    labels = [_parts(record) for record in records]
    usual: dict[str, list[str]] = {}
    for label in labels:
        for head, items in label:
            if items:
                usual[head] = [item for item in usual.get(head, items) if item in items]
    if not all(any(not head for head, _ in label) for label in labels):
        usual.pop("", None)  # some are not trained
    common = {part for part in labels[0] if all(part in label for label in labels)} if labels else set()
    names = [PART.join(filter(None, (_name(p, usual) for p in label if p not in common))) for label in labels]
    if not all(names):
        return tuple(records), (), ()
    shared = [_name(part, {}) for part in (labels[0] if labels else ()) if part in common]
    whole = {head for head, _ in common}
    training = usual.pop("", [])
    if "" not in whole:
        shared += training
    options = [f"{head}({', '.join(items)})" for head, items in usual.items() if items and head not in whole]
    named = [replace(r, cell={**r.cell, "label": name}) for r, name in zip(records, names, strict=True)]
    return tuple(named), tuple(shared), tuple(options)


def _parts(record: Record) -> tuple[Part, ...]:
    parts: list[Part] = []
    for part in record.label.split(PART):
        head, bracket, rest = part.partition("(")
        if part.startswith(_TRAINING):
            parts.append(("", tuple(_BETWEEN_ITEMS.split(part))))
        elif bracket and rest.endswith(")") and head == record.cell.get("generator"):
            parts.append((head, tuple(_BETWEEN_ITEMS.split(rest[:-1]))))
        else:
            parts.append((part, ()))
    return tuple(parts)


def _name(part: Part, usual: dict[str, list[str]]) -> str:
    head, items = part
    kept = ", ".join(item for item in items if item not in usual.get(head, ()))
    return f"{head}({kept})" if head and kept else head or kept
