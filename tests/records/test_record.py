"""The record's format: what is read, what is refused, and what the refusal says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qpabench.errors import RecordError
from qpabench.records.record import SCHEMA_VERSION, Record, content_hash, from_json

GOLDEN = Path(__file__).parents[1] / "golden" / "record_v1.json"


def _edited(**changes: Any) -> str:
    """A whole, consistent record file that differs from the golden one in these fields."""
    content = json.loads(GOLDEN.read_text(encoding="utf-8")) | changes
    return json.dumps(content | {"content_hash": content_hash(content)})


def test_golden_record_of_format_1_is_read() -> None:
    record = from_json(GOLDEN.read_text(encoding="utf-8"))
    assert (record.id, record.status, record.metrics["perplexity_masked"]) == ("0123456789abcdef", "ok", 38.5)


def test_golden_record_is_written_back_byte_for_byte() -> None:
    text = GOLDEN.read_text(encoding="utf-8")
    assert from_json(text).to_json() == text


def test_edited_metric_is_detected() -> None:
    text = GOLDEN.read_text(encoding="utf-8").replace("38.5", "18.5")
    with pytest.raises(RecordError, match="edited or damaged"):
        from_json(text)


def test_newer_format_is_refused_with_advice() -> None:
    with pytest.raises(RecordError, match=f"schema_version {SCHEMA_VERSION + 1}.*upgrade qpabench"):
        from_json(_edited(schema_version=SCHEMA_VERSION + 1))


def test_unknown_status_is_refused() -> None:
    with pytest.raises(RecordError, match="found status 'splendid', expected one of ok"):
        from_json(_edited(status="splendid"))


def test_metric_that_is_no_finite_number_is_refused() -> None:
    with pytest.raises(RecordError, match="finite number"):
        from_json(_edited(metrics={"perplexity_masked": float("nan")}))


def test_timing_that_is_no_object_is_refused() -> None:
    with pytest.raises(RecordError, match="timing or provenance"):
        from_json(_edited(timing=[1, 2]))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "[" * 100_000])
def test_text_that_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(RecordError, match="delete it"):
        from_json(text)


def test_record_without_finite_metric_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        Record(cell={"id": "0" * 16}, status="ok", metrics={"perplexity_masked": float("inf")}).to_json()
