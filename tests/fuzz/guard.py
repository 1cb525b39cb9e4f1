"""Runs a command in this process and notices whatever a hostile file must not bring about."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from qpabench.cli import main

#: processor time of one input, and of one that draws figures
MOST_SECONDS, MOST_SECONDS_DRAWING = 2.0, 20.0
#: beyond what the process holds when it starts
MOST_MEMORY_BYTES = 2**30
LONGEST_MESSAGE = 700
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: what Python tells of when it happens, wherever the call is (``sys.audit``)
_WRITES = (
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
)
_NEVER = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.fork",
    "os.exec",
    "os.posix_spawn",
    "pickle.",
    "marshal.",
)
_IMPORTS = ("marshal.",)  # compiled modules are read with it


class TooSlowError(BaseException):
    """An input took longer than it may; no ``except Exception`` keeps it."""


@dataclass
class Guard:
    """What was noticed while ``watching`` is set.

    Args:
        writable: below it files may be written.
    """

    watching: bool = False
    writable: Path | None = None
    noticed: list[str] = field(default_factory=list)

    def hear(self, event: str, arguments: tuple[object, ...]) -> None:
        """Take note of an audit event."""
        if not self.watching:
            return
        if event == "open":
            path, _, flags = (*arguments, None, 0)[:3]
            if isinstance(path, int):
                return  # opened before, by a call that was heard
            if isinstance(flags, int) and flags & _WRITING and not self._may_write(path):
                self.noticed.append(f"wrote {path!r}")
        elif event in _WRITES:
            if not self._may_write(arguments[0]):
                self.noticed.append(f"{event} {arguments[:2]!r}")
        elif event.startswith(_NEVER) and not event.startswith(_IMPORTS):
            self.noticed.append(f"{event} {arguments[:2]!r}")

    def _may_write(self, path: object) -> bool:
        if self.writable is None or not isinstance(path, (str, os.PathLike)):
            return False
        return Path(path).absolute().is_relative_to(self.writable)


GUARD = Guard()
sys.addaudithook(GUARD.hear)  # can't be taken away again, hence once


@dataclass(frozen=True)
class Ended:
    """How an input ended.

    Args:
        code: exit code.
        out, err: what was printed.
        seconds: wall time.
        wrong: what must not happen but did.
    """

    code: object
    out: str
    err: str
    seconds: float
    wrong: tuple[str, ...]


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlowError


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """Let this process grow by so much only; more is a ``MemoryError`` where it happens."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    held = psutil.Process().memory_full_info().data
    resource.setrlimit(resource.RLIMIT_DATA, (held + MOST_MEMORY_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def end_of(
    arguments: Sequence[str],
    writable: Path | None = None,
    codes: Sequence[int] = (0, 2),
    most_seconds: float = MOST_SECONDS,
) -> Ended:
    """Run ``qpabench`` as its script does, and say what it did wrong.

    Args:
        arguments: the command line.
        writable: a folder below which it may write; by default nowhere.
        codes: exit codes that fit.
        most_seconds: processor time it may take.
    """
    out, err = io.StringIO(), io.StringIO()
    argv, bytecode = sys.argv, sys.dont_write_bytecode
    sys.argv, sys.dont_write_bytecode = ["qpabench", *arguments], True
    handlers = [signal.signal(number, _too_slow) for number in (signal.SIGPROF, signal.SIGALRM)]
    code: object = None
    wrong: list[str] = []
    GUARD.writable, GUARD.noticed, GUARD.watching = writable, [], True
    started = time.perf_counter()
    signal.setitimer(signal.ITIMER_PROF, most_seconds)
    signal.setitimer(signal.ITIMER_REAL, 60 * most_seconds)  # waiting takes no processor time
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException as error:
        wrong.append(f"raised {type(error).__name__}: {str(error)[:200]} {_where(error)}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        GUARD.watching = False
        for number, handler in zip((signal.SIGPROF, signal.SIGALRM), handlers, strict=True):
            signal.signal(number, handler)
        sys.argv, sys.dont_write_bytecode = argv, bytecode
    seconds = time.perf_counter() - started
    wrong += GUARD.noticed
    if not wrong and code not in codes:
        wrong.append(f"exit code {code}")
    for name, text in (("output", out.getvalue()), ("errors", err.getvalue())):
        odd = {char for char in text if char != "\n" and not char.isprintable()}
        if odd:
            wrong.append(f"{name} with {sorted(odd)[:5]!r}")
    if code == 2:
        lines = err.getvalue().splitlines()
        if len(lines) != 1 or not lines[0].startswith("error: ") or len(lines[0]) > LONGEST_MESSAGE:
            wrong.append(f"a refusal of {len(lines)} lines, {len(err.getvalue())} characters")
        if out.getvalue():
            wrong.append("a refusal after some output")
    return Ended(code, out.getvalue(), err.getvalue(), seconds, tuple(wrong))


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    places = []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    own = [place for place in places if not place.startswith(("typing", "core.py"))]
    return " < ".join(reversed(own[-6:]))
