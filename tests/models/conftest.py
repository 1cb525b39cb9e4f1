"""Tiny random models in folders, as save_pretrained writes them."""

from pathlib import Path

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

from qpabench.models.tiny import byte_tokenizer


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def gpt2_folder(tmp_path: Path) -> Path:
    """A GPT-2 with d = 16, V = 257 and a tokenizer."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=257, n_embd=16, n_layer=1, n_head=2, n_positions=64, eos_token_id=256)
    return saved(GPT2LMHeadModel(config), tmp_path / "gpt2")


@pytest.fixture
def gemma2_folder(tmp_path: Path) -> Path:
    """A Gemma-2 with d = 16, V = 257, final softcap 0.05 (so that it bends these tiny logits)."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=257,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=64,
        final_logit_softcapping=0.05,
    )
    return saved(Gemma2ForCausalLM(config), tmp_path / "gemma2")


def saved(module: torch.nn.Module, folder: Path) -> Path:
    module.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
