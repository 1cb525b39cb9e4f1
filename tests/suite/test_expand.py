"""Axes, matrices, profiles, --set and --only: which cells a suite has."""

from pathlib import Path
from typing import Any

import pytest
from written_suites import DEFAULTS, DIRECT, QPA, cells_of, write_suite

from qpabench.errors import InputError
from qpabench.hooks.manager import Registry, load_registry
from qpabench.suite.cell import Cell
from qpabench.suite.plan import make_plan

EXAMPLE = """
[suite]
name = "fig2-gpt2"            # also the default output folder: letters, digits, - and _
title = "LoRA and QPA-LoRA on GPT-2"
version = 1

[defaults]
model = "gpt2"
dataset = "wikitext-2"
protocol = "released-code"    # or "paper-text"
seeds = [0, 1, 2]
train = { epochs = 3, learning_rate = 1e-5, batch_size = 1, scheduler = "linear" }

[[matrix]]
target = { name = "lora", rank = [1, 2, 4, 8, 16, 32] }
generator = "direct"

[[matrix]]
target = { name = "lora", rank = 4 }
generator = { name = "qpa", chunk_size = [256, 512, 1024, 2048, 4096, 8192], n_layers = 8 }
backend = ["native", "torchquantum"]
ansatz = ["ry", "rx", "rxrz", "ryrz"]

[profiles.laptop]             # what `--profile laptop` replaces: real, offline, minutes on two cores
model = "smollm2-135m"
dataset = { name = "wikipedia-sample", train_rows = 64, test_rows = 32 }
seeds = [0]
"""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def planned(
    folder: Path,
    registry: Registry,
    text: str,
    profile: str | None = None,
    settings: tuple[str, ...] = (),
    only: str | None = None,
) -> list[Cell]:
    suite = folder / "suite.toml"
    suite.write_text(text)
    made = make_plan(suite, registry, profile=profile, settings=settings, only=only)
    return [cell.cell for cell in made.cells]


def option(cell: Cell, kind: str, name: str) -> Any:
    return cell.to_json()["options"][kind][name]


# -- axes ------------------------------------------------------------------------------------


def test_lists_are_crossed_within_a_table(tmp_path: Path) -> None:
    body = QPA.replace("rank = 2", "rank = [1, 2]").replace("n_layers = 2", "n_layers = [1, 2, 3]")
    cells = cells_of(tmp_path, body + 'ansatz = ["ry", "rx"]\n')
    found = {(option(c, "target", "rank"), c.summary()["n_layers"], c.summary()["ansatz"]) for c in cells}
    assert found == {
        (rank, layers, ansatz) for rank in (1, 2) for layers in (1, 2, 3) for ansatz in ("ry", "rx")
    }
    assert len(cells) == 12


def test_training_settings_are_axes_too(tmp_path: Path) -> None:
    cells = cells_of(tmp_path, DIRECT + "train = { learning_rate = [1e-3, 1e-4], epochs = [1, 2] }\n")
    assert len({(cell.train.learning_rate, cell.train.epochs) for cell in cells}) == len(cells) == 4


def test_components_in_a_list_have_options_of_their_own(tmp_path: Path) -> None:
    body = '[[matrix]]\ntarget = "lora"\ngenerator = ["direct", { name = "qpa", chunk_size = [64, 128] }]\n'
    cells = cells_of(tmp_path, body)
    assert [cell.summary()["chunk_size"] for cell in cells] == [None, 64, 128]


def test_tables_are_joined_in_the_order_of_the_file(tmp_path: Path) -> None:
    assert [cell.generator.name for cell in cells_of(tmp_path, QPA + DIRECT)] == ["qpa", "direct"]


def test_identical_cells_run_once(tmp_path: Path) -> None:
    assert len(cells_of(tmp_path, DIRECT + DIRECT + DIRECT.replace("rank = 2", "rank = [2, 2, 1]"))) == 2


def test_a_generator_without_a_circuit_ignores_backends_and_ansatze(tmp_path: Path) -> None:
    (cell,) = cells_of(
        tmp_path, DIRECT + 'backend = { name = "native", shots = [1, 2] }\nansatz = ["ry", "rx"]\n'
    )
    assert (cell.backend, cell.ansatz, cell.circuits_per_step) == (None, None, 0)


def test_a_table_overrides_the_defaults_key_by_key_in_train(tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path, DIRECT + "train = { learning_rate = 0.5 }\n")
    assert (cell.train.learning_rate, cell.train.epochs) == (0.5, 1)


def test_a_table_replaces_a_component_whole(tmp_path: Path) -> None:
    defaults = DEFAULTS.replace('model = "tiny-gpt2"', 'model = {{ name = "tiny-gpt2", seed = 3 }}')
    suite = write_suite(tmp_path, DIRECT + 'model = "tiny-gpt2"\n', defaults)
    (cell,) = make_plan(suite, load_registry()).cells
    assert option(cell.cell, "model", "seed") == 0


# -- profiles, --set, --only -------------------------------------------------------------------


def test_a_profile_replaces_what_it_names(tmp_path: Path, registry: Registry) -> None:
    cells = planned(tmp_path, registry, EXAMPLE, profile="laptop")
    assert {cell.model.name for cell in cells} == {"smollm2-135m"}
    assert {cell.seed for cell in cells} == {0}
    assert {option(cell, "dataset", "train_rows") for cell in cells} == {64}


def test_a_profile_wins_over_a_table(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, DIRECT + "seeds = [5]\n[profiles.p]\nseeds = [6]\n")
    plan = make_plan(suite, load_registry(), profile="p")
    assert [cell.cell.seed for cell in plan.cells] == [6]


def test_a_profile_may_bring_its_own_tables(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, DIRECT + "[[profiles.p.matrix]]\n" + QPA.split("]]\n")[1])
    plan = make_plan(suite, load_registry(), profile="p")
    assert [cell.cell.generator.name for cell in plan.cells] == ["qpa"]


@pytest.mark.parametrize(
    ("setting", "kind", "name", "expected"),
    [
        ("train.epochs=7", "train", "epochs", 7),
        ("target.rank=3", "target", "rank", 3),
        ("model.seed=4", "model", "seed", 4),
        ("train.scheduler=cosine", "train", "scheduler", "cosine"),
        ('train.scheduler="cosine"', "train", "scheduler", "cosine"),
        ("evaluate.strided=true", "evaluate", "strided", True),
    ],
)
def test_set_wins_over_everything(
    setting: str, kind: str, name: str, expected: object, tmp_path: Path
) -> None:
    (cell,) = cells_of(tmp_path, DIRECT, (setting,))
    assert option(cell, kind, name) == expected


def test_set_may_give_an_axis(tmp_path: Path) -> None:
    assert [cell.seed for cell in cells_of(tmp_path, DIRECT, ("seeds=[3, 1]",))] == [3, 1]


def test_set_reaches_every_component_of_a_list(tmp_path: Path) -> None:
    body = '[[matrix]]\ntarget = "lora"\ngenerator = [{ name = "qpa", chunk_size = 64 }, "qpa"]\n'
    cells = cells_of(tmp_path, body, ("generator.n_layers=5",))
    assert [option(cell, "generator", "n_layers") for cell in cells] == [5, 5]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("generator=direct", 6),
        ("generator = 'direct'", 6),
        ("generator!=direct", 48),
        ("generator=qpa and n_qubits>=9", 16),
        ("generator=qpa, n_qubits>=9, ansatz=r?rz", 8),
        ("backend=torch*", 24),
        ("chunk_size<512", 8),
        ("chunk_size>512 and chunk_size<=2048", 16),
        ("target.rank=32", 1),
        ("train.learning_rate=0.00001 and generator=direct", 6),
        ("NOT_A_FIELD.x=1 and generator=direct", 0),
    ],
)
def test_only_selects(expression: str, expected: int, tmp_path: Path, registry: Registry) -> None:
    if not expected:
        with pytest.raises(InputError, match="none of the 54 cells matches"):
            planned(tmp_path, registry, EXAMPLE, settings=("seeds=[0]",), only=expression)
        return
    assert len(planned(tmp_path, registry, EXAMPLE, settings=("seeds=[0]",), only=expression)) == expected


def test_the_example_of_the_documentation_has_its_cells(tmp_path: Path, registry: Registry) -> None:
    assert len(planned(tmp_path, registry, EXAMPLE)) == 3 * (6 + 6 * 2 * 4)


# -- protocols ---------------------------------------------------------------------------------

PRESETS = {
    "released-code": ("none", "redrawn", "plus-minus", "scaled", True),
    "paper-text": ("gelu", "fixed", "zero-one", "raw", False),
}
NAMES = ("activation", "basis_order", "bit_values", "probability_feature", "centred_output")


@pytest.mark.parametrize("protocol", PRESETS)
def test_a_protocol_sets_the_options_that_tell_it_apart(protocol: str, tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path, QPA + f'protocol = "{protocol}"\n')
    assert tuple(option(cell, "generator", name) for name in NAMES) == PRESETS[protocol]


def test_an_option_wins_over_the_protocol(tmp_path: Path) -> None:
    body = QPA.replace("n_layers = 2", 'n_layers = 2, activation = "relu"') + 'protocol = "paper-text"\n'
    (cell,) = cells_of(tmp_path, body)
    assert option(cell, "generator", "activation") == "relu"
    assert "activation=relu" in cell.label


def test_protocols_are_an_axis(tmp_path: Path) -> None:
    cells = cells_of(tmp_path, QPA + 'protocol = ["released-code", "paper-text"]\n')
    assert [cell.protocol for cell in cells] == ["released-code", "paper-text"]
