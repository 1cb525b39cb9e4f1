"""Nothing is unpickled: neither weights nor series, whatever their file is called."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import pytest
import torch

from qpabench.errors import RecordError, UnavailableError
from qpabench.export import _state
from qpabench.models.load import load, load_folder
from qpabench.models.options import HuggingFaceOptions
from qpabench.records.store import RunDirectory

ROOT = Path(__file__).parents[2]


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, crater: Path) -> None:
        self.crater = crater

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.crater,)


@pytest.fixture
def crater(tmp_path: Path) -> Path:
    return tmp_path / "crater"


def test_the_bomb_would_go_off(crater: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(crater)))
    assert crater.exists()


def test_safetensors_replaced_by_a_pickle(gpt2_folder: Path, crater: Path) -> None:
    (gpt2_folder / "model.safetensors").write_bytes(pickle.dumps(Bomb(crater)))
    with pytest.raises(UnavailableError, match="truncated or no safetensors file"):
        load(HuggingFaceOptions(path=str(gpt2_folder)))
    assert not crater.exists()


def test_safetensors_replaced_by_a_pickle_is_refused_by_the_loader_too(
    gpt2_folder: Path, crater: Path
) -> None:
    (gpt2_folder / "model.safetensors").write_bytes(pickle.dumps(Bomb(crater)))
    with pytest.raises(UnavailableError, match="cannot load"):
        load_folder(gpt2_folder, HuggingFaceOptions(path=str(gpt2_folder)))
    assert not crater.exists()


def test_folder_with_pickled_weights_alone_says_how_to_save_them(gpt2_folder: Path, crater: Path) -> None:
    (gpt2_folder / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Bomb(crater)}, gpt2_folder / "pytorch_model.bin")
    with pytest.raises(UnavailableError, match=r"pickled weights only.*safe_serialization=True"):
        load(HuggingFaceOptions(path=str(gpt2_folder)))
    assert not crater.exists()


def test_pickled_weights_of_a_repository_are_not_loaded(gpt2_folder: Path, crater: Path) -> None:
    """``load_folder`` is what a repository's files come to, unchecked before."""
    (gpt2_folder / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Bomb(crater)}, gpt2_folder / "pytorch_model.bin")
    with pytest.raises(UnavailableError, match="cannot load"):
        load_folder(gpt2_folder, HuggingFaceOptions(path=str(gpt2_folder)))
    assert not crater.exists()


def test_trained_numbers_replaced_by_a_pickle(tmp_path: Path, crater: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.records.mkdir()
    directory.state_path("a" * 16).write_bytes(pickle.dumps(Bomb(crater)))
    with pytest.raises(RecordError, match="cannot read"):
        _state(directory, "a" * 16)
    assert not crater.exists()


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / "qpabench").rglob("*.py")), *sorted((ROOT / "plugins").rglob("*.py"))],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_source_calls_nothing_that_unpickles(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "joblib", "yaml", "shelve", "dill", "cloudpickle", "marshal"} & set(names)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "torch.load",
            "pd.read_pickle",
            "np.load",
        ):
            safe = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert "True" in (safe.get("weights_only"), str(safe.get("allow_pickle") == "False"))
