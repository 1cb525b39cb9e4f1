"""What messages are made of stays short and is made soon."""

import time

from qpabench.errors import nearest


def test_nearest_of_a_very_long_name_is_given_soon() -> None:
    started = time.process_time()
    assert nearest("rank" * 50_000, ["rank", "rank_" * 20]).startswith(("did you mean", "known: "))
    assert time.process_time() - started < 0.5
