"""What a dataset gives: lines of text in three splits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Splits:
    """Text as lines in their original order, blank lines and headings kept, without line ends.

    Args:
        train: lines trained on.
        validation: lines for choosing settings; may be empty.
        test: lines measured on.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
