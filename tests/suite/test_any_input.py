"""Whatever stands in a suite, it is planned or refused in one line; no other error."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qpabench.errors import InputError
from qpabench.hooks.manager import Registry, load_registry
from qpabench.suite.document import TOP_KEYS
from qpabench.suite.plan import make_plan

VALID: dict[str, Any] = {
    "suite": {"name": "x", "title": "t", "version": 1, "summary": "s"},
    "defaults": {"model": "tiny-gpt2", "dataset": {"name": "wikitext-2", "max_length": 32}, "seeds": [0]},
    "matrix": [
        {
            "target": {"name": "lora", "rank": [1, 2]},
            "generator": [{"name": "qpa", "chunk_size": 64, "n_layers": 2}, "direct"],
            "backend": {"name": "native", "shots": 10},
            "ansatz": ["ry", "ryrz"],
            "train": {"epochs": 1, "learning_rate": [0.1, 0.2], "scheduler": "linear"},
            "evaluate": {"strided": True, "stride": 3},
            "protocol": ["paper-text"],
        }
    ],
    "profiles": {"p": {"train": {"max_steps": 2}}},
    "limits": {"timeout_seconds": 3.5},
}
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, -1, 10**9]),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["lora", "qpa", "native", "direct", "name", "released-code", ""]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.just("name"), inner, max_size=3)
    ),
    max_leaves=6,
)


def toml(value: Any) -> str:
    """Write a value inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{text(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return text(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def text(value: str) -> str:
    return json.dumps(value.encode("utf-8", "replace").decode()).replace("\x7f", "\\u007f")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested tables and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in inner for place in places(child, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    items = value.items() if isinstance(value, dict) else enumerate(value)
    changed = {key: replaced(child, path[1:], new) if key == path[0] else child for key, child in items}
    return changed if isinstance(value, dict) else list(changed.values())


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def assert_planned_or_refused(folder: Path, content: str, registry: Registry, *changes: str) -> None:
    suite = folder / "suite.toml"
    suite.write_text(content, encoding="utf-8")
    refusal = ""
    try:
        make_plan(suite, registry, settings=changes, max_cells=100)
    except InputError as error:
        refusal = str(error)
    assert refusal.isprintable()  # hence one line


def written(document: dict[str, Any]) -> str:
    return "".join(f"{text(key)} = {toml(value)}\n" for key, value in document.items())


FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(place=st.sampled_from([place for place in places(VALID) if place]), value=VALUES)
def test_any_value_anywhere(tmp_path: Path, registry: Registry, place: tuple[Any, ...], value: Any) -> None:
    assert_planned_or_refused(tmp_path, written(replaced(VALID, place, value)), registry)


@FUZZ
@given(key=st.sampled_from(TOP_KEYS) | st.text(max_size=5), value=VALUES)
def test_any_table_at_the_top(tmp_path: Path, registry: Registry, key: str, value: Any) -> None:
    assert_planned_or_refused(tmp_path, written({**VALID, key: value}), registry)


@FUZZ
@given(change=st.text(max_size=20))
def test_any_text(tmp_path: Path, registry: Registry, change: str) -> None:
    assert_planned_or_refused(tmp_path, change.encode("utf-8", "replace").decode(), registry)


PATHS = [".".join(map(str, place)) for place in places({**VALID["defaults"], **VALID["matrix"][0]}) if place]


@FUZZ
@given(path=st.sampled_from(PATHS), value=VALUES.map(toml) | st.text(max_size=10))
def test_any_setting(tmp_path: Path, registry: Registry, path: str, value: str) -> None:
    assert_planned_or_refused(tmp_path, written(VALID), registry, f"{path}={value}")


def test_the_valid_suite_is_valid(tmp_path: Path, registry: Registry) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(written(VALID))
    assert len(make_plan(suite, registry).cells) == 2 * 2 * 2 + 2 * 2
