"""What a metric's name means: its title, unit, direction, and how large a change is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["perplexity", "bits", "nll", "seconds", "bytes", "parameters", "count", "share", "number"]

#: relative change below which two values of one kind are the same
RELATIVE_TOLERANCE: dict[Kind, float] = {
    "perplexity": 1e-4,  # float32 sums in another order
    "bits": 1e-4,
    "nll": 1e-4,
    "seconds": 0.20,  # the noise of one run on a quiet machine
    "bytes": 0.10,
    "parameters": 0.0,
    "count": 0.0,
    "share": 1e-6,
    "number": 1e-3,
}
#: kinds that say something of the machine, so two machines can't be told apart from two versions
MACHINE_KINDS: tuple[Kind, ...] = ("seconds", "bytes")


@dataclass(frozen=True)
class Metric:
    """What is known of a metric before any value is seen.

    Args:
        name: as in records.
        title: as printed.
        kind: decides format and tolerance.
        lower_is_better: None where neither direction is better.
        meaning: how it is measured, in words; empty when the title says it.
    """

    name: str
    title: str
    kind: Kind
    lower_is_better: bool | None
    meaning: str = ""


_KNOWN = {
    metric.name: metric
    for metric in (
        Metric("probability_error_max", "largest probability error", "number", True),
        Metric("total_variation_distance", "total variation distance", "number", True),
        Metric("gradient_error_relative", "gradient error", "number", True),
        Metric(
            "perplexity_masked",
            "masked",
            "perplexity",
            True,
            "the same rows as for padded, but only positions that hold text are scored (attention mask), "
            "each token weighing the same: exp of the mean NLL per token. Cells are ranked by it.",
        ),
        Metric(
            "perplexity_padded",
            "padded",
            "perplexity",
            True,
            "every position of a row is scored, the padding after the text included; exp of the mean of the "
            "batch means. This is the paper's number. Padding is soon predicted with certainty, so most of a "
            "fall against the untrained model can be learning to predict padding rather than text.",
        ),
        Metric(
            "perplexity_strided",
            "strided",
            "perplexity",
            True,
            "the test text as one stream, cut into overlapping windows; each token is scored once, with the "
            "context that the stride leaves it.",
        ),
        Metric(
            "perplexity_word",
            "per word",
            "perplexity",
            True,
            "the summed NLL divided by the number of words of the original text: independent of the "
            "tokenizer.",
        ),
        Metric(
            "bits_per_byte",
            "bits per byte",
            "bits",
            True,
            "the summed NLL in bits divided by the number of bytes of the original text: independent of the "
            "tokenizer.",
        ),
        Metric("n_trainable", "trainable", "parameters", True, "numbers an optimizer updates"),
        Metric("n_free", "trained directly", "parameters", True, "numbers of the target among them"),
        Metric("n_theta", "angles", "parameters", True, "circuit angles among them"),
        Metric("n_mapping", "mapping", "parameters", True, "numbers outside the circuit among them"),
        Metric("n_generated", "generated", "count", None, "numbers put into the target"),
        Metric("n_qubits", "qubits", "count", None),
        Metric("n_layers", "layers", "count", None),
        Metric("n_chunks", "chunks", "count", None),
        Metric("chunk_size", "chunk size", "count", None),
        Metric("circuits_per_step", "circuits a step", "count", True),
        Metric("gradient_variance_theta", "gradient variance of the angles", "number", None),
        Metric("step_seconds_median", "step (median)", "seconds", True),
        Metric("train_seconds", "training", "seconds", True),
        Metric("eval_seconds", "evaluation", "seconds", True),
        Metric("peak_memory_bytes", "peak memory", "bytes", True),
        Metric("circuits_executed", "circuits", "count", True),
        Metric("shots_executed", "shots", "count", True),
        Metric("padding_share_test", "share of padding, test rows", "share", None),
        Metric("tokens_test", "test tokens scored", "count", None),
        Metric("n_steps", "training steps", "count", None),
    )
}
#: the perplexities in the order in which they stand side by side; the first is the one ranked by
PERPLEXITIES = (
    "perplexity_masked",
    "perplexity_padded",
    "perplexity_strided",
    "perplexity_word",
    "bits_per_byte",
)
RANKED_BY = PERPLEXITIES[0]
BASE_PREFIX = "base_"
_SUFFIXES: tuple[tuple[str, Kind, bool | None], ...] = (
    ("_seconds", "seconds", True),
    ("_bytes", "bytes", True),
    ("_nats", "nll", True),
    ("_share", "share", None),
)


def metric(name: str) -> Metric:
    """Describe a metric; one that a plugin added is judged by its name's prefix and unit.

    Args:
        name: as in records, with or without ``base_``.
    """
    known = _KNOWN.get(name)
    if known is not None:
        return known
    if name.startswith(BASE_PREFIX):
        plain = metric(name.removeprefix(BASE_PREFIX))
        return Metric(name, f"{plain.title}, untrained base", plain.kind, plain.lower_is_better)
    title = name.replace("_", " ")
    if "perplexity" in name:
        return Metric(name, title, "perplexity", True)
    for suffix, kind, lower_is_better in _SUFFIXES:
        if name.endswith(suffix):
            return Metric(name, title, kind, lower_is_better)
    if name.startswith("n_") or name.startswith("tokens"):
        return Metric(name, title, "count", None)
    return Metric(name, title, "number", None)
