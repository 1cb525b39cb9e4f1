"""What a person sees while a suite runs: progress bars on a terminal, a line per cell elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from qpabench.errors import one_line

if TYPE_CHECKING:
    from qpabench.running.executor import Job


LINE_SECONDS = 30.0  # away from a terminal, how often a line says how far it is


class RunDisplay:
    """Events of a run as bars: one for all cells, one for each that runs, with its loss and time left.

    Away from a terminal: a line for each that begins, and one now and then that says how far it is.

    Args:
        console: where to draw.
        total: cells to run.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.total = total
        self._done = 0
        self._started = self._last_line = time.monotonic()
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._all = self._bars.add_task("cells", total=total, note="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def started(self, job: Job, what: str) -> None:
        """Draw a bar for the job, or print its line."""
        label = _label(job)
        if what == "features":
            label = f"features for {job.cell['model']} on {job.cell['dataset']}"
        if job.id in self._tasks:
            self._bars.remove_task(self._tasks.pop(job.id))
        self._tasks[job.id] = self._bars.add_task(escape(label), total=None, note="starting")
        self._line(label)

    def progress(self, job: Job, what: str, done: int, total: int, loss: float | None) -> None:
        """Move the job's bar."""
        task = self._tasks.get(job.id)
        if task is not None:
            note = one_line(what, 60) if loss is None else f"{one_line(what, 60)}, loss {loss:.3f}"
            if time.monotonic() - self._last_line > LINE_SECONDS:
                self._line(f"{self._done} of {self.total} done; {_label(job)}: {note}, {done} of {total}")
            self._bars.update(task, completed=done, total=max(total, 1), note=escape(note))

    def finished(self, job: Job) -> None:
        """Take the job's bar away."""
        self._done += 1
        self._bars.update(self._all, completed=self._done)
        task = self._tasks.pop(job.id, None)
        if task is not None:
            self._bars.remove_task(task)

    def _line(self, text: str) -> None:
        if not self.console.is_terminal:
            self._last_line = time.monotonic()
            seconds = self._last_line - self._started
            self.console.print(f"{seconds:6.0f} s  {text}", markup=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(f"warning: {one_line(text)}", markup=False, highlight=False, soft_wrap=True)


def _label(job: Job) -> str:
    return one_line(job.cell["label"], 160)
