"""Training and evaluation settings, part of every cell."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qpabench.hooks.entries import Options


class TrainOptions(Options):
    """How a cell is trained.

    The defaults are the paper's common ground (Tables 4 to 7); rows, epochs and learning rate are the
    suite's to choose.
    """

    epochs: int = Field(default=3, ge=0, le=100_000, description="passes over the training rows")
    max_steps: int | None = Field(default=None, ge=1, description="stop after so many steps")
    learning_rate: float = Field(default=1e-5, gt=0, le=100)
    learning_rate_theta: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="of the angles, or of what a control trains in their place; absent: learning_rate",
    )
    batch_size: int = Field(default=1, ge=1, le=4096, description="rows a step")
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    loss: Literal["padded", "masked"] = Field(
        default="padded", description="padded: padding is scored too, as the released code does"
    )
    theta_optimizer: Literal["adamw", "cobyla", "nelder-mead"] = Field(
        default="adamw",
        description="cobyla, nelder-mead: angles searched after each epoch, without gradients",
    )
    theta_evaluations: int = Field(
        default=100, ge=1, description="evaluations of a gradient-free search, per epoch"
    )
    theta_rows: int = Field(default=8, ge=1, description="training rows a gradient-free search looks at")
    preset: Literal["none", "paper"] = Field(
        default="none", description="paper: learning rate, epochs, warm-up and dropout of Tables 4 to 7"
    )


class EvaluateOptions(Options):
    """How a cell is measured."""

    batch_size: int = Field(
        default=2, ge=1, le=4096, description="rows whose means the padded figure averages"
    )
    strided: bool = Field(default=False, description="also score the test text as one contiguous stream")
    context: int = Field(default=512, ge=2, description="tokens per window of the contiguous stream")
    stride: int = Field(default=256, ge=1, description="tokens scored per window")
