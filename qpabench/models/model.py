"""What a loaded language model gives to training: a frozen backbone, its output layer, a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass
class LoadedModel:
    """A frozen causal language model.

    Args:
        module: the whole model, in evaluation mode, no parameter requires a gradient.
        tokenizer: a Hugging Face tokenizer.
        pad_token_id: what rows are padded with (the end-of-sequence token where there is no pad token).
        max_positions: longest input in tokens.
        logit_softcap: c where the model's logits are c * tanh(z / c), else None.
    """

    module: nn.Module
    tokenizer: Any
    pad_token_id: int
    max_positions: int
    logit_softcap: float | None = None

    @property
    def head(self) -> nn.Linear:
        """The output layer (``lm_head``), weight (V, d)."""
        head = self.module.get_output_embeddings()  # type: ignore[operator]
        assert isinstance(head, nn.Linear)
        return head

    @property
    def head_name(self) -> str:
        """The output layer's name in the model: ``lm_head`` nearly always."""
        return str(next(name for name, module in self.module.named_modules() if module is self.head))

    @property
    def tied(self) -> bool:
        """Whether the output layer shares its weight with the input embedding."""
        return bool(self.head.weight is self.module.get_input_embeddings().weight)  # type: ignore[operator]

    def features(
        self, input_ids: Int[Tensor, "rows tokens"], attention_mask: Int[Tensor, "rows tokens"]
    ) -> Float[Tensor, "rows tokens d"]:
        """Return what enters ``lm_head`` (the last hidden state after the final norm)."""
        backbone = self.module.base_model
        hidden: Tensor = backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # type: ignore[operator]
        return hidden
