"""Every error raised on purpose; each message says what was found, what was expected, what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches


class QpabenchError(Exception):
    """Something the person who called can mend; printed as one line, without a traceback."""

    exit_code = 1


class InputError(QpabenchError):
    """The input is wrong: a suite file, an option, a name. Exit code 2."""

    exit_code = 2


class PluginError(InputError):
    """A plugin is broken or two plugins claim one name."""


class UnsupportedError(QpabenchError):
    """This combination can't be measured by design (the reason becomes the cell's row)."""


class UnavailableError(QpabenchError):
    """A package, weights or data are missing here (the reason says how to get them)."""


class NumericalError(QpabenchError):
    """A loss or a generated weight stopped being finite."""


class RecordError(QpabenchError):
    """A record can't be read or written."""


class DamagedError(RecordError):
    """A file of a run directory isn't what was written there."""


class ClaimedError(RecordError):
    """Another runner is at work on the cell."""


class StorageError(RecordError):
    """The file system refuses: disk full, no permission, read-only; says nothing about the cell at hand."""


class NewerFormatError(RecordError):
    """A record was written by a newer qpabench: it isn't damaged, and stays where it is."""


def one_line(text: object, limit: int = 300) -> str:
    """Make any text safe for one line of a terminal: control characters shown, length bounded.

    Args:
        text: anything with a ``str``.
        limit: most characters returned.

    Returns:
        Printable text without line breaks.
    """
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text).strip())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def cause(error: OSError) -> str:
    """Say in a few words why the file system refused; numpy gives no reason, only how much it wrote."""
    if error.errno is None and " requested and " in str(error):
        return f"{os.strerror(errno.ENOSPC)}, {one_line(error)}"
    return one_line(error.strerror or error)


def nearest(name: str, known: Iterable[str]) -> str:
    """Say what a misspelt name may have meant, or what there is.

    Args:
        name: what was found.
        known: what could have been meant.

    Returns:
        ``did you mean 'x'?`` or ``known: a, b, c``.
    """
    names = sorted(known)
    # of a very long name, the search alone takes seconds
    close = get_close_matches(name[:100], names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names) if names else 'none'}"
