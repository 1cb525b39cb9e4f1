"""Suites built from any values, for property tests."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

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


def written(document: dict[str, Any]) -> str:
    return "".join(f"{text(key)} = {toml(value)}\n" for key, value in document.items())
