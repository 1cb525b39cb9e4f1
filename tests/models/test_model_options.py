"""What is known of a model without loading it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from qpabench.models import weights
from qpabench.models.options import (
    Gemma2BOptions,
    Gemma22BOptions,
    Gpt2Options,
    Gpt2XlOptions,
    HuggingFaceOptions,
    TinyGpt2Options,
)


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (Gpt2Options(), (768, 50257)),
        (Gpt2XlOptions(), (1600, 50257)),
        (Gemma2BOptions(), (2048, 256000)),
        (Gemma22BOptions(), (2304, 256000)),
        (TinyGpt2Options(), (32, 257)),
    ],
)
def test_shape_is_known_without_weights(options, shape):
    assert options.shape() == shape


def test_importing_options_imports_no_torch():
    code = "import sys, qpabench.models.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_absent_weights_offline_are_missing_with_the_download_command():
    assert "`hf download openai-community/gpt2`" in Gpt2Options().missing()


def test_absent_weights_online_are_not_missing_because_they_can_be_fetched(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert Gpt2Options().missing() is None


def test_revision_stands_in_the_download_command():
    assert "--revision v1" in Gpt2Options(revision="v1").missing()


def test_path_that_is_no_folder_is_missing(tmp_path):
    assert "is not a folder" in HuggingFaceOptions(path=str(tmp_path / "nowhere")).missing()


def test_folder_without_config_is_missing(tmp_path):
    assert "no config.json" in HuggingFaceOptions(path=str(tmp_path)).missing()


def test_folder_with_damaged_config_is_missing(gpt2_folder):
    (gpt2_folder / "config.json").write_text("{")
    assert "not a JSON object" in HuggingFaceOptions(path=str(gpt2_folder)).missing()


def test_folder_without_weights_is_missing(gpt2_folder):
    (gpt2_folder / "model.safetensors").unlink()
    assert "no weights" in HuggingFaceOptions(path=str(gpt2_folder)).missing()


@pytest.mark.parametrize("kept_bytes", [0, 5, 100, 20_000])
def test_truncated_weights_are_missing(gpt2_folder, kept_bytes):
    file = gpt2_folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept_bytes])
    assert "truncated" in HuggingFaceOptions(path=str(gpt2_folder)).missing()


def test_absent_shard_is_missing_by_name(gpt2_folder):
    (gpt2_folder / "model.safetensors").rename(gpt2_folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (gpt2_folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert (
        "lacks the weight file model-00002-of-00002.safetensors"
        in HuggingFaceOptions(path=str(gpt2_folder)).missing()
    )


def test_folder_without_tokenizer_is_missing(gpt2_folder):
    (gpt2_folder / "tokenizer.json").unlink()
    assert "no tokenizer" in HuggingFaceOptions(path=str(gpt2_folder)).missing()


def test_whole_folder_misses_nothing(gpt2_folder):
    assert HuggingFaceOptions(path=str(gpt2_folder)).missing() is None


def test_another_model_under_a_published_name_is_refused(gpt2_folder):
    assert "expected (768, 50257)" in Gpt2Options(path=str(gpt2_folder)).missing()


def test_shape_of_a_folder_comes_from_its_config(gpt2_folder):
    assert HuggingFaceOptions(path=str(gpt2_folder)).shape() == (16, 257)


def test_shape_of_an_uncached_repository_is_unknown():
    assert HuggingFaceOptions(repo="someone/something").shape() is None


@pytest.mark.parametrize("given", [{}, {"repo": "a/b", "path": "c"}])
def test_huggingface_needs_exactly_one_source(given):
    with pytest.raises(ValidationError, match="exactly one of repo and path"):
        HuggingFaceOptions(**given)


def test_remote_code_is_refused_by_default():
    assert HuggingFaceOptions(repo="a/b").remote_code() is False


def test_fingerprint_of_a_repository_names_its_revision():
    assert Gpt2Options(revision="v1").fingerprint() == "hub:openai-community/gpt2@v1"


def test_fingerprint_of_a_folder_follows_its_weights(gpt2_folder):
    options = HuggingFaceOptions(path=str(gpt2_folder))
    before = options.fingerprint()
    file = gpt2_folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    assert options.fingerprint() != before


def test_fingerprint_of_a_folder_does_not_depend_on_where_it_lies(gpt2_folder):
    before = HuggingFaceOptions(path=str(gpt2_folder)).fingerprint()
    moved = gpt2_folder.rename(gpt2_folder.with_name("moved"))
    assert HuggingFaceOptions(path=str(moved)).fingerprint() == before


@pytest.mark.parametrize("config", ["[" * 100_000, '{"text_config": [1], "n_embd": "x"}', "null"])
def test_config_of_another_shape_gives_no_width(gpt2_folder: Path, config: str) -> None:
    (gpt2_folder / "config.json").write_text(config)
    assert weights.head_shape(gpt2_folder) is None


@pytest.mark.parametrize(
    "header", [b'{"a": {"data_offsets": [0, "x"]}}', b"[" * 20_000, b'{"a": {"data_offsets": 3}}']
)
def test_safetensors_header_of_another_shape_is_damage(gpt2_folder: Path, header: bytes) -> None:
    (gpt2_folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert "damaged header" in str(weights.folder_problem(gpt2_folder))
