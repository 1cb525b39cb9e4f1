"""The tiny random GPT-2."""

import pytest
import torch

from qpabench.models.load import check_head
from qpabench.models.options import TinyGpt2Options
from qpabench.models.tiny import byte_tokenizer, load


def test_shape_is_the_declared_one():
    head = load(TinyGpt2Options()).head
    assert (head.in_features, head.out_features) == TinyGpt2Options().shape()


def test_same_seed_gives_the_same_weights():
    assert torch.equal(load(TinyGpt2Options()).head.weight, load(TinyGpt2Options()).head.weight)


def test_other_seed_gives_other_weights():
    assert not torch.equal(load(TinyGpt2Options()).head.weight, load(TinyGpt2Options(seed=1)).head.weight)


def test_drawing_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    load(TinyGpt2Options())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("tied", [True, False])
def test_head_is_tied_as_asked(tied):
    assert load(TinyGpt2Options(tied=tied)).tied is tied


def test_head_of_features_equals_logits():
    assert check_head(load(TinyGpt2Options())) <= 1e-6


def test_every_byte_is_one_token_and_comes_back():
    text = "naïve\n\t 量子"
    ids = byte_tokenizer()(text).input_ids
    assert (len(ids), byte_tokenizer().decode(ids)) == (len(text.encode()), text)
