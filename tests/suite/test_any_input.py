"""Whatever stands in a suite, it is planned or refused in one line; no other error."""

from pathlib import Path
from typing import Any

import pytest
from any_suite import VALID, VALUES, places, replaced, toml, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qpabench.errors import InputError
from qpabench.hooks.manager import Registry, load_registry
from qpabench.suite.document import TOP_KEYS
from qpabench.suite.plan import make_plan


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
