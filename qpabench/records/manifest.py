"""What ``run.json`` may hold: the suite's head, the planned cells, what is asked and what is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qpabench.errors import one_line

CellId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Figure(_Part):
    x: str
    y: Annotated[list[str], Field(min_length=1, max_length=3)]


class _Member(_Part):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
    cells: list[CellId]
    title: str | None = None
    summary: str | None = None
    figures: list[_Figure] = []


class _Question(_Part):
    name: str
    cell: list[CellId]
    against: list[list[CellId]]


class _Verdict(_Part):
    margin_nats: Annotated[float, Field(gt=0)]
    families: list[_Question]


class _Select(_Part):
    validation: list[CellId] = []


class _Manifest(_Part):
    cells: list[CellId]
    suite: str | None = None
    title: str | None = None
    summary: str | None = None
    version: Count | None = None
    profile: str | None = None
    command: str | None = None
    figures: list[_Figure] | None = None
    members: list[_Member] | None = None
    verdict: _Verdict | None = None
    select: _Select = _Select()


def problem(manifest: Mapping[str, Any]) -> str | None:
    """Say what of a manifest isn't as a run writes it.

    Args:
        manifest: the content of ``run.json``; further keys are left alone.

    Returns:
        None, or key, what was found and what was expected.
    """
    try:
        _Manifest.model_validate(dict(manifest))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        return (
            f"{one_line(key, 60)}: found {one_line(repr(first['input']), 60)}; {one_line(first['msg'], 120)}"
        )
    return None
