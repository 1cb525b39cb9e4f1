"""The record's format: what is read, what is refused, and what the refusal says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qpabench.errors import DamagedError, RecordError
from qpabench.records.record import SCHEMA_VERSION, Record, content_hash, from_json

GOLDEN = Path(__file__).parents[1] / "golden" / f"record_v{SCHEMA_VERSION}.json"
#: one of each format there ever was
EVERY_GOLDEN = [GOLDEN.with_name(f"record_v{version}.json") for version in range(1, SCHEMA_VERSION + 1)]


def _edited(**changes: Any) -> str:
    """A whole, consistent record file that differs from the golden one in these fields."""
    content = json.loads(GOLDEN.read_text(encoding="utf-8")) | changes
    return json.dumps(content | {"content_hash": content_hash(content)})


@pytest.mark.parametrize("golden", EVERY_GOLDEN, ids=lambda path: path.stem)
def test_golden_record_of_every_format_is_read(golden: Path) -> None:
    record = from_json(golden.read_text(encoding="utf-8"))
    assert (record.id, record.status, record.metrics["perplexity_masked"]) == ("0123456789abcdef", "ok", 38.5)


def test_golden_record_is_written_back_byte_for_byte() -> None:
    text = GOLDEN.read_text(encoding="utf-8")
    assert from_json(text).to_json() == text


def test_first_format_knows_no_hashes_of_files() -> None:
    assert from_json(EVERY_GOLDEN[0].read_text(encoding="utf-8")).files is None


@pytest.mark.parametrize("golden", EVERY_GOLDEN, ids=lambda path: path.stem)
def test_edited_metric_is_detected(golden: Path) -> None:
    text = golden.read_text(encoding="utf-8").replace("38.5", "18.5")
    with pytest.raises(RecordError, match="edited or damaged"):
        from_json(text)


def test_newer_format_is_refused_with_advice() -> None:
    with pytest.raises(RecordError, match=f"schema_version {SCHEMA_VERSION + 1}.*upgrade qpabench"):
        from_json(_edited(schema_version=SCHEMA_VERSION + 1))


@pytest.mark.parametrize("version", [None, True, 0, -1, 1.5, "1", "\x1b[31m"])
def test_version_that_is_none_is_refused_in_one_line(version: Any) -> None:
    with pytest.raises(RecordError, match=r"found schema_version .*, expected 1 to") as refused:
        from_json(_edited(schema_version=version))
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "files", [None, [], {"npz": "abc"}, {"npz": {"bytes": "1", "sha256": "a"}}, {"npz": {"bytes": 1}}]
)
def test_files_without_size_or_hash_are_refused(files: Any) -> None:
    with pytest.raises(RecordError, match="files isn't a table of sizes and hashes"):
        from_json(_edited(files=files))


def test_a_flipped_version_number_is_damage_and_no_newer_format() -> None:
    text = GOLDEN.read_text(encoding="utf-8")
    flipped = text.replace(f'"schema_version": {SCHEMA_VERSION}', f'"schema_version": {SCHEMA_VERSION + 4}')
    with pytest.raises(DamagedError, match="edited or damaged"):
        from_json(flipped)


def test_unknown_status_is_refused() -> None:
    with pytest.raises(RecordError, match="found status 'splendid', expected one of ok"):
        from_json(_edited(status="splendid"))


def test_metric_that_is_no_finite_number_is_refused() -> None:
    with pytest.raises(RecordError, match="finite number"):
        from_json(_edited(metrics={"perplexity_masked": float("nan")}))


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e999", "-Infinity", str(2**63)])
def test_number_beyond_64_bits_anywhere_is_refused(number: str) -> None:
    text = GOLDEN.read_text(encoding="utf-8").replace('"n_trainable": 199680', f'"n_trainable": {number}')
    with pytest.raises(RecordError, match=r"not JSON \(found .*; delete it"):
        from_json(text)


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
