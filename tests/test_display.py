"""What a run says while it runs."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from qpabench import display
from qpabench.running.executor import Job

CELL = {"id": "0123456789abcdef", "label": "lora", "model": "gpt2", "dataset": "ptb"}


@pytest.fixture
def job() -> Job:
    return Job(CELL, "key", Path("run"))


@pytest.mark.parametrize(("seconds", "lines"), [(0.0, 4), (60.0, 1)])
def test_away_from_a_terminal_a_line_now_and_then_says_how_far_it_is(
    job: Job, seconds: float, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "LINE_SECONDS", seconds)
    out = io.StringIO()
    with display.RunDisplay(Console(file=out), 1) as shown:
        shown.started(job, "cell")
        for step in range(3):
            shown.progress(job, "training", step, 3, 2.5)
        shown.finished(job)
    assert len(out.getvalue().splitlines()) == lines
    assert ("0 of 1 done; lora: training, loss 2.500, 2 of 3" in out.getvalue()) == (lines > 1)


def test_a_terminal_sees_bars(job: Job) -> None:
    out = io.StringIO()
    with display.RunDisplay(Console(file=out, force_terminal=True, width=120), 1) as shown:
        shown.started(job, "cell")
        shown.progress(job, "training", 1, 3, 2.5)
        shown._bars.refresh()
        shown.finished(job)
    assert "1/3" in out.getvalue()
