"""What messages are made of stays short and is made soon."""

import errno
import os
import time

from qpabench.errors import cause, nearest


def test_a_cause_is_the_systems_word_for_it() -> None:
    assert cause(PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/x")) == "Permission denied"
    assert cause(OSError("odd\n")) == "odd"


def test_a_short_write_of_numpy_is_called_a_full_disk() -> None:
    text = cause(OSError("8224 requested and 6112 written"))
    assert text == "No space left on device, 8224 requested and 6112 written"


def test_nearest_of_a_very_long_name_is_given_soon() -> None:
    started = time.process_time()
    assert nearest("rank" * 50_000, ["rank", "rank_" * 20]).startswith(("did you mean", "known: "))
    assert time.process_time() - started < 0.5
