"""Names in a report: what all cells share is said once."""

from __future__ import annotations

from planted import planted_record

from qpabench.records.record import Record
from qpabench.reports.names import without_shared


def labelled(*labels: tuple[str, str]) -> list[Record]:
    """Records with these generators and labels."""
    return [planted_record(label, generator=generator) for generator, label in labels]


def names(*labels: tuple[str, str]) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    named, shared, usual = without_shared(labelled(*labels))
    return [one.label for one in named], shared, usual


def test_parts_and_training_settings_that_all_share_are_left_out() -> None:
    assert names(
        ("direct", "lora(rank=1) · direct · gpt2 · lr 0.1, 3 epochs, masked loss · seed 0"),
        ("direct", "lora(rank=2) · direct · gpt2 · lr 0.2, 3 epochs, masked loss · seed 0"),
    ) == (
        ["lora(rank=1) · lr 0.1", "lora(rank=2) · lr 0.2"],
        ("direct", "gpt2", "seed 0", "3 epochs", "masked loss"),
        (),
    )


def test_options_that_a_generator_always_has_are_left_out() -> None:
    assert names(
        ("qpa", "lora · qpa(start=zero, chunk_size=8) · native/ry"),
        ("qpa", "lora · qpa(start=zero, chunk_size=16) · native/ry"),
        ("uniform", "lora · uniform(start=zero, chunk_size=8)"),
    ) == (
        ["qpa(chunk_size=8) · native/ry", "qpa(chunk_size=16) · native/ry", "uniform"],
        ("lora",),
        ("qpa(start=zero)", "uniform(start=zero, chunk_size=8)"),
    )


def test_an_option_that_only_some_tell_stays() -> None:
    found, _, usual = names(("qpa", "lora · qpa(start=zero, shots=8)"), ("qpa", "vera · qpa(start=zero)"))
    assert found == ["lora · qpa(shots=8)", "vera · qpa"]
    assert usual == ("qpa(start=zero)",)


def test_lists_among_options_are_not_cut() -> None:
    found, _, _ = names(
        ("qpa", "lora · qpa(modules=['a', 'b'], x=1)"), ("qpa", "vera · qpa(modules=['a', 'c'], x=1)")
    )
    assert found == ["lora · qpa(modules=['a', 'b'])", "vera · qpa(modules=['a', 'c'])"]


def test_a_generator_that_every_cell_has_is_said_whole() -> None:
    assert names(("qpa", "lora · qpa(start=zero)"), ("qpa", "vera · qpa(start=zero)")) == (
        ["lora", "vera"],
        ("qpa(start=zero)",),
        (),
    )


def test_training_that_some_lack_stays_whole() -> None:
    found, shared, _ = names(("direct", "lora · lr 0.1, 3 epochs"), ("direct", "vera · untrained"))
    assert (found, shared) == (["lora · lr 0.1, 3 epochs", "vera · untrained"], ())


def test_names_stay_where_nothing_would_be_left() -> None:
    found, shared, usual = names(("direct", "lora · direct"), ("direct", "lora · direct"))
    assert (found, shared, usual) == (["lora · direct", "lora · direct"], (), ())
    assert without_shared([]) == ((), (), ())
