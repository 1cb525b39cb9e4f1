"""Several runners on one directory at once."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from subject import WAIT_SECONDS, Faults, side_by_side

N_COUNTED = 4  # cells that note each time they are run


@pytest.mark.parametrize("runners", [2, 4])
def test_runners_share_the_work(faults: Faults, runners: int) -> None:
    judged = []
    for number in range(faults.times(3)):
        subject, _ = faults.alternating(number)
        note = subject.folder / "executions"
        variables = {"QPABENCH_TEST_EXECUTIONS": str(note)}
        started = [subject.start(variables=variables) for _ in range(runners)]
        for process in started:
            _, err = process.communicate(timeout=WAIT_SECONDS)
            assert (process.returncode, err) == (0, "")
        assert Counter(note.read_text().split()) == {str(number): 1 for number in range(N_COUNTED)}
        judged.append(faults.judge(subject))
    faults.count(f"{runners} runners on one directory", len(judged), judged)


def test_a_dead_runners_claim_is_taken_over(faults: Faults) -> None:
    def disturb(number: int) -> tuple[int, tuple[int, int]]:
        (subject, seconds), stream = faults.alternating(number), faults.random(f"claims {number}")
        first, second = subject.start(), subject.start()
        while first.poll() is None and not list(subject.root.glob("locks/*.lock")):
            time.sleep(0.01)
        try:
            first.wait(timeout=stream.uniform(0, seconds / 2))
        except Exception:
            first.kill()
        first.communicate(timeout=WAIT_SECONDS)
        _, err = second.communicate(timeout=WAIT_SECONDS)
        assert (second.returncode, err) == (0, "")
        return int(first.returncode != 0), faults.judge(subject)

    done = side_by_side(disturb, faults.times(6))
    faults.count("SIGKILL of one of two runners", sum(k for k, _ in done), [pair for _, pair in done])
