"""Hook docstrings against the hooks themselves, and what ships against what is asked."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

import qpabench
from qpabench.hooks import hookspecs
from qpabench.hooks.manager import KINDS, load_registry

HOOKS = {name: value for name, value in vars(hookspecs).items() if name.startswith("qpabench_")}
EACH = pytest.mark.parametrize("hook", HOOKS.values(), ids=list(HOOKS))


def example(hook: Callable[..., Any]) -> ast.FunctionDef:
    """The function in the docstring's example."""
    _, _, code = inspect.getdoc(hook).partition("Example::")  # type: ignore[union-attr]
    (function,) = ast.parse(textwrap.dedent(code)).body
    assert isinstance(function, ast.FunctionDef)
    return function


@EACH
def test_the_example_implements_its_hook(hook: Callable[..., Any]) -> None:
    assert example(hook).name == hook.__name__


@EACH
def test_the_example_takes_the_hooks_arguments(hook: Callable[..., Any]) -> None:
    taken = [argument.arg for argument in example(hook).args.args]
    assert taken == list(inspect.signature(hook).parameters)


@EACH
def test_the_example_is_marked(hook: Callable[..., Any]) -> None:
    assert [ast.unparse(mark) for mark in example(hook).decorator_list] == ["qpabench.hookimpl"]


@EACH
def test_the_docstring_describes_the_hooks_arguments(hook: Callable[..., Any]) -> None:
    described = re.findall(r"^    (\w+): ", inspect.getdoc(hook) or "", re.MULTILINE)
    assert described == list(inspect.signature(hook).parameters)


@EACH
def test_the_docstring_says_when_it_is_called(hook: Callable[..., Any]) -> None:
    first = (inspect.getdoc(hook) or "").splitlines()[0]
    assert re.search(r"asked once|Told when", first)


@EACH
def test_the_example_runs_and_gives_what_the_hook_asks_for(hook: Callable[..., Any]) -> None:
    kind = KINDS.get(hook.__name__.removeprefix("qpabench_"))
    if kind is None:
        pytest.skip("an event")
    known = {name: getattr(qpabench, name) for name in qpabench.__all__}
    options = {f"{name}Options": kind.options for name in ("BitFit", "Novel", "MyModel", "Tiny")}
    names: dict[str, Any] = {"qpabench": qpabench, **known, **options}
    code = ast.unparse(example(hook))
    exec(code, names)
    registry = load_registry({"example": _Holder(hook.__name__, names[hook.__name__])})
    assert any(found.source.plugin == "example" for found in registry.of_kind(kind.kind))


class _Holder:
    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        setattr(self, name, function)


def test_every_kind_of_entry_has_its_hook() -> None:
    assert {f"qpabench_{kind}" for kind in KINDS} < set(HOOKS)


def test_every_hook_is_a_specification() -> None:
    assert all(hasattr(hook, "qpabench_spec") for hook in HOOKS.values())


SHIPPED = [
    found
    for kind in KINDS.values()
    for found in load_registry().of_kind(kind.kind)
    if found.source.plugin == "builtin"
]


@pytest.mark.parametrize("found", SHIPPED, ids=[f"{f.entry.kind}-{f.entry.name}" for f in SHIPPED])
def test_what_ships_can_be_loaded(found: Any) -> None:
    assert callable(found.entry.component())


@pytest.mark.parametrize("found", SHIPPED, ids=[f"{f.entry.kind}-{f.entry.name}" for f in SHIPPED])
def test_presets_of_protocols_are_valid_options(found: Any) -> None:
    from qpabench.suite.document import PROTOCOLS

    options = found.entry.options
    assert set(options.presets) <= set(PROTOCOLS)
    assert all(set(preset) <= set(options.model_fields) for preset in options.presets.values())
