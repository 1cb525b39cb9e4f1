"""A tiny random GPT-2 whose tokens are bytes: for tests, without files or network."""

from __future__ import annotations

from typing import Any

import torch

from qpabench.models.load import finish, quiet, require_device
from qpabench.models.model import LoadedModel
from qpabench.models.options import TinyGpt2Options

END = "<|endoftext|>"


def load(options: TinyGpt2Options) -> LoadedModel:
    """Draw a two-layer GPT-2 from a seed.

    Args:
        options: seed, tied head, device, dtype.

    Returns:
        The frozen model: d = 32, V = 257 (256 bytes and the end token), 128 positions.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    require_device(options.device)
    width, vocabulary = options.known_shape
    config = GPT2Config(
        vocab_size=vocabulary,
        n_embd=width,
        n_layer=2,
        n_head=2,
        n_positions=options.n_positions,
        bos_token_id=vocabulary - 1,
        eos_token_id=vocabulary - 1,
        tie_word_embeddings=options.tied,
    )
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        module = GPT2LMHeadModel(config)
    return finish(module, byte_tokenizer(), options, "tiny-gpt2")


def byte_tokenizer() -> Any:
    """Build a tokenizer with one token per byte of UTF-8 and an end token (id 256)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {char: index for index, char in enumerate(alphabet)} | {END: len(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=END)
