"""How a run differs from the paper, said from the options and protocols it really used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qpabench.records.record import Record
from qpabench.reports.markdown import Markdown, lead
from qpabench.reports.run import Run

Options = Mapping[str, Any]
_PUBLISHED_MODELS = ("gpt2", "gpt2-xl", "gemma-2b", "gemma-2-2b")
_PUBLISHED_TEXT = ("wikitext-2", "ptb")


def differs(run: Run) -> list[Markdown]:
    """Return one paragraph for each way in which some cell differs from the paper's text or its script."""
    records = [record for record in run.records if isinstance(record.cell.get("options"), Mapping)]
    said = []
    for title, text, holds in _WAYS:
        found = [record for record in records if holds(record.cell, _parts(record))]
        if found:
            share = "" if len(found) == len(records) else f" ({len(found)} of {len(records)} cells)"
            said.append(lead(f"{title}{share}.", text.format(**_words(found))))
    return said


def _parts(record: Record) -> dict[str, Options]:
    options = record.cell["options"]
    names = ("model", "dataset", "target", "generator", "backend", "train")
    return {name: options.get(name) or {} for name in names}


def _words(records: Sequence[Record]) -> dict[str, str]:
    def each(values: Sequence[object]) -> str:
        return ", ".join(sorted({str(value) for value in values}))

    parts = [_parts(record) for record in records]
    return {
        "models": each([record.cell.get("model") for record in records]),
        "texts": each([record.cell.get("dataset") for record in records]),
        "lengths": each([own["dataset"].get("max_length") for own in parts]),
        "rows": each([own["dataset"].get("train_rows") for own in parts]),
        "dtypes": each([own["model"].get("dtype", "float32") for own in parts]),
        "gradients": each([own["backend"].get("gradient", "auto") for own in parts]),
        "rates": each([own["train"].get("learning_rate") for own in parts]),
        "epochs": each([own["train"].get("epochs") for own in parts]),
    }


def _noisy(own: Mapping[str, Options]) -> bool:
    backend = own["backend"]
    return backend.get("shots") is not None or backend.get("shots_per_state") is not None


_WAYS: tuple[tuple[str, str, Callable[[Mapping[str, Any], Mapping[str, Options]], bool]], ...] = (
    (
        "Another model",
        "{models} instead of GPT-2, GPT-2 XL or Gemma: no perplexity here can equal a published one.",
        lambda cell, own: cell.get("model") not in _PUBLISHED_MODELS,
    ),
    (
        "Gemma's version",
        "The paper names Gemma-2 2B (d = 2304), but all its counts need d = 2048, Gemma 2B. Published "
        "numbers stand beside gemma-2b; gemma-2-2b is measured too.",
        lambda cell, own: str(cell.get("model")).startswith("gemma"),
    ),
    (
        "Other text",
        "{texts} instead of WikiText-2 or Penn Treebank.",
        lambda cell, own: cell.get("dataset") not in _PUBLISHED_TEXT,
    ),
    (
        "Shorter rows",
        "Rows of {lengths} tokens instead of 512: less padding, so padded perplexities are of another kind.",
        lambda cell, own: own["dataset"].get("max_length", 512) != 512,
    ),
    (
        "Fewer rows",
        "Training rows: {rows}; the paper trains on all (36,718 of WikiText-2).",
        lambda cell, own: own["dataset"].get("train_rows") is not None,
    ),
    (
        "Padding is scored",
        "As in the authors' script, padding counts in the training loss and in the padded perplexity: most "
        "of a padded figure near 1.5 is padding predicted with certainty. Masked perplexities stand "
        "beside it.",
        lambda cell, own: own["train"].get("loss") == "padded",
    ),
    (
        "Masked loss",
        "Training leaves padding out, the authors' script scores it: a short run would learn little else.",
        lambda cell, own: own["train"].get("loss") == "masked",
    ),
    (
        "Other training settings",
        "Learning rate {rates}, {epochs} epochs; Tables 4 to 7 have learning rates of 1e-6 to 1e-5, one row "
        "a step, 3 to 10 epochs: more than a hundred thousand steps.",
        lambda cell, own: own["train"].get("preset") != "paper",
    ),
    (
        "Basis drawn anew",
        "The authors' script draws the order of the basis strings at random in every forward pass, in "
        "testing too; the paper's text has them in index order. These cells do as the script.",
        lambda cell, own: own["generator"].get("basis_order") == "redrawn",
    ),
    (
        "No activation",
        "The authors' script has no activation between the mapping's layers, so the mapping is linear and "
        "its output has rank N + 2 at most; the text doesn't say. These cells do as the script.",
        lambda cell, own: own["generator"].get("activation") == "none",
    ),
    (
        "One more layer",
        "Table 1 prints hidden widths 32, 64, 128, 128, 64, 32; every published count needs one more 32.",
        lambda cell, own: "chunk_size" in own["generator"],
    ),
    (
        "Prefix",
        "Rows prepended to the input of a position-wise layer change no scored position. Here a prefix is "
        "one learned vector a position, added to the layer's input: the same count.",
        lambda cell, own: cell.get("target") == "prefix" and own["target"].get("reading") != "literal",
    ),
    (
        "Frozen backbone",
        "All before the output layer is computed once, without dropout; the authors' script leaves the "
        "backbone's own dropout on in training.",
        lambda cell, own: own["target"].get("target_modules", ["lm_head"]) == ["lm_head"],
    ),
    (
        "Number format",
        "{dtypes} throughout; the authors' script trains in float16 autocast without scaling gradients.",
        lambda cell, own: True,
    ),
    (
        "Gradients with shots",
        "The paper doesn't say how angles were trained under shots or noise; here: {gradients}.",
        lambda cell, own: _noisy(own),
    ),
    (
        "Device noise",
        "From a published snapshot of the device's calibration, not that of the authors' day; circuits are "
        "transpiled to the device first.",
        lambda cell, own: "device" in own["backend"] and _noisy(own),
    ),
)
