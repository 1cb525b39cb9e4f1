"""Ids: the same for the same experiment, another for any change that can change its result."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo
from written_suites import DIRECT, QPA, cells_of

from qpabench.errors import InputError
from qpabench.hooks.entries import Options
from qpabench.hooks.manager import Registered, Registry, Source, load_registry
from qpabench.suite.cell import Cell, cell_from_json
from qpabench.suite.options import EvaluateOptions, TrainOptions

KINDS = ("model", "dataset", "target", "generator", "backend", "ansatz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cell")


@pytest.fixture(scope="module")
def cell(folder: Path) -> Cell:
    return cells_of(folder, QPA)[0]


def other_values(field: FieldInfo, value: Any) -> Iterator[Any]:
    """Values of the field's type that may be valid and differ from the given one."""
    kinds = [field.annotation, *get_args(field.annotation)]
    kinds += [get_args(kind)[0] for kind in kinds if get_origin(kind) is Annotated]
    for kind in kinds:
        if get_origin(kind) is Literal:
            yield from get_args(kind)
    if any(get_origin(kind) is list for kind in kinds):
        yield ["c_attn"]
    if bool in kinds:
        yield not value
    if int in kinds:
        yield from (3, 5, 17)
    if float in kinds:
        yield from (0.25, 0.5)
    if str in kinds:
        yield from ("cuda", "cuda:1", "text.txt")


def changed(options: Options, name: str) -> Options:
    field = type(options).model_fields[name]
    for value in other_values(field, getattr(options, name)):
        if value != getattr(options, name):
            try:
                return type(options)(**{**options.model_dump(), name: value})
            except ValueError:
                continue
    raise AssertionError(f"no other value for {name}")


COMPONENT_OPTIONS = [
    (kind, name)
    for kind, registered in [
        ("model", "tiny-gpt2"),
        ("dataset", "text"),
        ("target", "lora"),
        ("generator", "qpa"),
        ("backend", "native"),
    ]
    for name in load_registry().find(kind, registered).entry.options.model_fields
]


@pytest.mark.parametrize(
    ("kind", "name"), COMPONENT_OPTIONS, ids=[".".join(pair) for pair in COMPONENT_OPTIONS]
)
def test_every_option_of_a_component_changes_the_id(kind: str, name: str, cell: Cell) -> None:
    choice = getattr(cell, kind)
    other = dataclasses.replace(choice, options=changed(choice.options, name))
    assert dataclasses.replace(cell, **{kind: other}).id != cell.id


@pytest.mark.parametrize("name", TrainOptions.model_fields)
def test_every_option_of_training_changes_the_id(name: str, cell: Cell) -> None:
    assert dataclasses.replace(cell, train=changed(cell.train, name)).id != cell.id


@pytest.mark.parametrize("name", EvaluateOptions.model_fields)
def test_every_option_of_evaluation_changes_the_id(name: str, cell: Cell) -> None:
    assert dataclasses.replace(cell, evaluate=changed(cell.evaluate, name)).id != cell.id


def test_the_seed_changes_the_id(cell: Cell) -> None:
    assert dataclasses.replace(cell, seed=1).id != cell.id


@pytest.mark.parametrize("kind", KINDS)
def test_the_behaviour_version_of_a_component_changes_the_id(kind: str, cell: Cell) -> None:
    choice = getattr(cell, kind)
    raised = dataclasses.replace(choice.entry, behaviour_version=2)
    assert dataclasses.replace(cell, **{kind: dataclasses.replace(choice, entry=raised)}).id != cell.id


@pytest.mark.parametrize("kind", KINDS)
def test_the_version_of_a_package_does_not_change_the_id(kind: str, cell: Cell) -> None:
    choice = dataclasses.replace(getattr(cell, kind), brought_by="qpabench 99.0")
    assert dataclasses.replace(cell, **{kind: choice}).id == cell.id


def test_the_content_of_a_text_changes_the_id(tmp_path: Path) -> None:
    (before,) = cells_of(tmp_path)
    from qpabench.suite.plan import make_plan

    (tmp_path / "test.txt").write_text("another\n")
    (after,) = make_plan(tmp_path / "suite.toml", load_registry()).cells
    assert after.cell.id != before.id


def test_an_option_written_at_its_default_does_not_change_the_id(folder: Path, cell: Cell) -> None:
    (other,) = cells_of(folder, QPA.replace("n_layers = 2", 'n_layers = 2, start = "random"'))
    assert other.id == cell.id


def test_the_title_of_the_suite_does_not_change_the_id(folder: Path, cell: Cell) -> None:
    (other,) = cells_of(folder, QPA + "[profiles.p]\nseeds = [9]\n")
    assert other.id == cell.id


def test_ids_are_sixteen_hexadecimal_digits(cell: Cell) -> None:
    assert len(cell.id) == 16
    int(cell.id, 16)


def test_a_cell_comes_back_from_its_record(cell: Cell) -> None:
    again = cell_from_json(json.loads(json.dumps(cell.to_json())), load_registry())
    assert again.id == cell.id
    assert again.to_json() | {"label": ""} == cell.to_json() | {"label": ""}


def test_a_direct_cell_comes_back_too(folder: Path) -> None:
    (direct,) = cells_of(folder, DIRECT)
    assert cell_from_json(direct.to_json(), load_registry()).id == direct.id


def test_a_cell_of_a_plugin_that_changed_is_refused(cell: Cell) -> None:
    registry: Registry = load_registry()
    entry = dataclasses.replace(registry.find("target", "lora").entry, behaviour_version=7)
    registry.entries["target"]["lora"] = Registered(entry, Source("builtin", "qpabench", "0"))
    with pytest.raises(InputError, match=rf"cell {cell.id} is .* a plugin's behaviour changed"):
        cell_from_json(cell.to_json(), registry)


def test_labels_of_different_cells_differ(tmp_path: Path) -> None:
    body = (
        QPA.replace("chunk_size = 64", "chunk_size = [64, 128]") + 'ansatz = ["ry", "rx"]\nseeds = [0, 1]\n'
    )
    cells = cells_of(tmp_path, body)
    assert len({cell.label for cell in cells}) == len(cells) == 8
