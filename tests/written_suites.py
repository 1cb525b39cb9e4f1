"""Small suites on disk for tests: a tiny random model, a few lines of text, seconds to run."""

from __future__ import annotations

from pathlib import Path

from qpabench.hooks.manager import Registry, load_registry
from qpabench.suite.cell import Cell
from qpabench.suite.plan import make_plan

TRAIN = """ = A heading =

The first row of text .
A second row , which is rather longer than the others and will be cut off somewhere .
 = A heading =

Third .
Fourth row of text .
"""
TEST = """The first row to measure .

A second row .

Third : some numbers 1 2 3 .
The first row to measure .
"""
VALIDATION = "A row to choose settings by .\nAnother .\n"

DEFAULTS = """
[suite]
name = "example"

[defaults]
model = "tiny-gpt2"
dataset = {{ name = "text", train = "{folder}/train.txt", test = "{folder}/test.txt", max_length = 32 }}
train = {{ epochs = 1, learning_rate = 1e-3 }}
"""
DIRECT = """
[[matrix]]
target = { name = "lora", rank = 2 }
generator = { name = "direct", init = "target" }
"""
QPA = """
[[matrix]]
target = { name = "lora", rank = 2 }
generator = { name = "qpa", chunk_size = 64, n_layers = 2 }
"""


def write_texts(folder: Path) -> None:
    """Write ``train.txt``, ``validation.txt`` and ``test.txt``."""
    (folder / "train.txt").write_text(TRAIN, encoding="utf-8")
    (folder / "validation.txt").write_text(VALIDATION, encoding="utf-8")
    (folder / "test.txt").write_text(TEST, encoding="utf-8")


def write_suite(folder: Path, body: str = DIRECT, defaults: str = DEFAULTS) -> Path:
    """Write the texts and a suite on them.

    Args:
        folder: an existing folder.
        body: what follows the defaults, TOML.
        defaults: ``{folder}`` is replaced.
    """
    write_texts(folder)
    suite = folder / "suite.toml"
    suite.write_text(defaults.format(folder=folder.as_posix()) + body, encoding="utf-8")
    return suite


def cells_of(
    folder: Path, body: str = DIRECT, settings: tuple[str, ...] = (), registry: Registry | None = None
) -> list[Cell]:
    """Return the cells of a suite written by ``write_suite``."""
    suite = write_suite(folder, body)
    plan = make_plan(suite, registry or load_registry(), settings=settings)
    return [planned.cell for planned in plan.cells]
