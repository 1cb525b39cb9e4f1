"""Loading from folders and the hub, and what is refused."""

import json

import huggingface_hub
import pytest
import torch

from qpabench.errors import InputError, UnavailableError, UnsupportedError
from qpabench.models.load import check_head, load
from qpabench.models.options import Gpt2Options, HuggingFaceOptions


def folder_options(folder, **options):
    return HuggingFaceOptions(path=str(folder), **options)


def test_weights_are_frozen(gpt2_folder):
    assert not any(weight.requires_grad for weight in load(folder_options(gpt2_folder)).module.parameters())


def test_model_is_in_evaluation_mode(gpt2_folder):
    assert not load(folder_options(gpt2_folder)).module.training


def test_pad_token_falls_back_to_the_end_token(gpt2_folder):
    assert load(folder_options(gpt2_folder)).pad_token_id == 256


def test_tokenizer_without_pad_and_end_token_is_an_input_error(gpt2_folder):
    file = gpt2_folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    for token in ("eos_token", "bos_token", "pad_token"):
        settings.pop(token, None)
    file.write_text(json.dumps(settings))
    with pytest.raises(InputError, match="neither a pad nor an end-of-sequence token"):
        load(folder_options(gpt2_folder))


def test_longest_input_comes_from_the_config(gpt2_folder):
    assert load(folder_options(gpt2_folder)).max_positions == 64


def test_dtype_is_an_option(gpt2_folder):
    assert load(folder_options(gpt2_folder, dtype="bfloat16")).head.weight.dtype == torch.bfloat16


def test_head_of_features_equals_logits(gpt2_folder):
    assert check_head(load(folder_options(gpt2_folder))) <= 1e-6


def test_gemma2_softcap_is_read_and_holds(gemma2_folder):
    model = load(folder_options(gemma2_folder))
    assert (model.logit_softcap, check_head(model) <= 1e-6) == (0.05, True)


def test_logits_scaled_in_an_unknown_way_are_unsupported(gemma2_folder):
    model = load(folder_options(gemma2_folder))
    model.logit_softcap = None
    with pytest.raises(UnsupportedError, match="scale their logits"):
        check_head(model)


def test_truncated_weights_are_unavailable(gpt2_folder):
    file = gpt2_folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UnavailableError, match="truncated"):
        load(folder_options(gpt2_folder))


def test_weights_that_lack_a_tensor_are_an_input_error(gpt2_folder):
    from safetensors.torch import load_file, save_file

    file = gpt2_folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["transformer.ln_f.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match="incomplete"):
        load(folder_options(gpt2_folder))


def test_weights_of_another_shape_are_refused_in_one_line(gpt2_folder):
    from safetensors.torch import load_file, save_file

    file = gpt2_folder / "model.safetensors"
    tensors = load_file(file)
    tensors["transformer.ln_f.weight"] = torch.ones(17)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises((InputError, UnavailableError)) as caught:
        load(folder_options(gpt2_folder))
    assert "\n" not in str(caught.value)


def test_unreachable_hub_is_unavailable_with_the_download_command(monkeypatch):
    def unreachable(*_args, **_options):
        raise ConnectionError("no route\nto host")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", unreachable)
    with pytest.raises(UnavailableError, match=r"can't be reached.*`hf download openai-community/gpt2`"):
        load(Gpt2Options())


@pytest.fixture
def hub_cache(gpt2_folder, tmp_path, monkeypatch):
    """The cache of the hub's client with one downloaded repository, someone/tiny at commit 0123..."""
    cache = tmp_path / "hub"
    repository = cache / "models--someone--tiny"
    commit = "0123456789" * 4
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    gpt2_folder.rename(repository / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return commit


def test_downloaded_repository_is_loaded_without_asking_the_hub(hub_cache, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", None)
    assert load(HuggingFaceOptions(repo="someone/tiny")).head.in_features == 16


def test_downloaded_repository_knows_its_commit_and_shape(hub_cache):
    options = HuggingFaceOptions(repo="someone/tiny")
    assert (options.commit(), options.shape(), options.missing()) == (hub_cache, (16, 257), None)


def test_offline_without_weights_is_unavailable(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnavailableError, match="HF_HUB_OFFLINE"):
        load(Gpt2Options())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_absent_cuda_device_is_unavailable(gpt2_folder):
    with pytest.raises(UnavailableError, match="torch sees 0 CUDA devices"):
        load(folder_options(gpt2_folder, device="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_model_is_put_on_the_gpu(gpt2_folder):
    assert load(folder_options(gpt2_folder, device="cuda")).head.weight.is_cuda
