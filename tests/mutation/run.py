"""Plants one mistake at a time in a copy of the package and demands that named tests turn red.

    python tests/mutation/run.py [PART_OF_A_NAME]

A test counts as red only where an assertion in its body failed; an error of import, collection or a fixture
doesn't. The same tests must pass on the untouched copy. Exit code 1 if a mistake survives.
"""

from __future__ import annotations

import hashlib
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from xml.etree import ElementTree

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
COPIED = ("qpabench", "plugins", "tests", "suites", "pyproject.toml")
JOBS = 2
SECONDS_PER_RUN = 150
NOT_THE_COPY = 99
#: imported once for all runs; nothing of this project
HEAVY = ("torch", "torch._dynamo", "transformers.models.gpt2.modeling_gpt2", "scipy.stats", "pandas", "peft")
SERVER = multiprocessing.get_context("forkserver")
#: how pytest's reports of failed assertions begin
ASSERTIONS = ("AssertionError", "assert ", "Failed: ")


class GuardError(Exception):
    """The guard itself can't say anything."""


def make_copy(to: Path) -> Path:
    """Copy what the tests need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, to / name)
    return to


def run_tests(copy: Path, tests: Iterable[str]) -> tuple[int | None, dict[str, str], str]:
    """Run tests in a copy, in a process of their own.

    Returns:
        pytest's exit code; by test id ``passed``, ``failed``, ``error`` or ``skipped``; the end of its output

    Raises:
        GuardError: the code under test didn't come from the copy.
    """
    report, output = copy / "report.xml", copy / "output.txt"
    report.unlink(missing_ok=True)
    process = SERVER.Process(target=in_copy, args=(copy, report, output, tuple(tests)))
    process.start()
    process.join(SECONDS_PER_RUN)
    if process.exitcode is None:
        process.kill()
        process.join()
    said = output.read_text(encoding="utf-8", errors="replace")[-3000:]
    if process.exitcode == NOT_THE_COPY:
        raise GuardError(said)
    found = {}
    if report.exists():
        for case in ElementTree.parse(report).iter("testcase"):
            name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
            found[name] = _state(case)
    return process.exitcode, found, said


def in_copy(copy: Path, report: Path, output: Path, tests: Sequence[str]) -> None:
    """Process entry: run pytest where the copy is what is imported, and see to it that it was."""
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(copy)
    paths = [str(copy), *sorted(str(path) for path in (copy / "plugins").iterdir() if path.is_dir())]
    sys.path[:0] = paths
    os.environ |= {
        "PYTHONPATH": os.pathsep.join(paths),
        "QPABENCH_CACHE": str(copy / "cache"),
        "NUMBA_CACHE_DIR": str(copy / "loops" / compiled_from(copy)),
    }
    sys.dont_write_bytecode = True  # a mistake of the same length, made in the same second, would go unseen
    import pytest

    options = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    code = int(pytest.main([*options, f"--junitxml={report}", *tests]))
    ours = ["qpabench", *sorted(path.parent.name for path in copy.glob("plugins/*/*/__init__.py"))]
    for name in ours:
        importlib.import_module(name)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in ours and file and not Path(file).resolve().is_relative_to(copy):
            print(f"{name} was imported from {file}, expected below {copy}: no mistake would be seen")
            code = NOT_THE_COPY
    sys.stdout.flush()
    os._exit(code)


def compiled_from(copy: Path) -> str:
    """Return a digest of what numba compiles: it keeps a loop though a file that it inlines has changed."""
    texts = [path.read_bytes() for path in sorted((copy / "qpabench").rglob("*.py"))]
    return hashlib.sha256(b"".join(text for text in texts if b"numba" in text)).hexdigest()[:16]


def _state(case: ElementTree.Element) -> str:
    failure = case.find("failure")
    if failure is not None:
        return "failed" if (failure.get("message") or "").startswith(ASSERTIONS) else "error"
    if case.find("error") is not None:
        return "error"
    return "passed" if case.find("skipped") is None else "skipped"


def states(found: dict[str, str], test: str) -> list[str]:
    """Return how the cases of one named test ended."""
    return [state for name, state in found.items() if name == test or name.startswith(f"{test}[")]


def check_untouched(copy: Path, mutants: Iterable[Mutant]) -> None:
    """Raise unless all named tests pass without a mistake.

    Raises:
        GuardError: one doesn't, or isn't there; the message names it.
    """
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    code, found, output = run_tests(copy, tests)
    for test in tests:
        if set(states(found, test)) != {"passed"}:
            ended = ", ".join(states(found, test)) or "not run"
            raise GuardError(f"{test} without a mistake: {ended}, expected passed\n{output}")
    if code:
        raise GuardError(f"pytest exits with {code} without a mistake, expected 0\n{output}")


def verdict(copy: Path, mutant: Mutant) -> str:
    """Plant a mistake, run its tests, take it out again.

    Returns:
        ``caught``, or what happened instead.
    """
    path = copy / mutant.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutant.found, mutant.replaced), encoding="utf-8")
    try:
        code, found, output = run_tests(copy, mutant.tests)
    finally:
        path.write_text(text, encoding="utf-8")
    if code == 0:
        return "SURVIVED"
    for test in mutant.tests:
        ended = states(found, test)
        if "failed" not in ended:
            return f"SURVIVED {test} ({', '.join(sorted(set(ended))) or 'not run'})\n{output}"
    return "caught" if code == 1 else f"pytest exits with {code}, expected 1\n{output}"


def main(wanted: str = "") -> int:
    """Run the guard, of mistakes with these words in their names; return the exit code."""
    started = time.monotonic()
    mutants = [mutant for mutant in MUTANTS if wanted in mutant.name]
    if not mutants:
        print(f"found no planted mistake named {wanted!r}; expected part of a name in mutants.py")
        return 2
    os.environ |= {
        "PYTHONDONTWRITEBYTECODE": "1",
        "QPABENCH_STRICT_PLUGINS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    SERVER.set_forkserver_preload(list(HEAVY))
    width = max(len(mutant.name) for mutant in mutants)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        copies: SimpleQueue[Path] = SimpleQueue()
        for index in range(JOBS):
            copies.put(make_copy(folder / str(index)))
        check_untouched(folder / "0", mutants)

        def judge(mutant: Mutant) -> str:
            copy = copies.get()
            try:
                return verdict(copy, mutant)
            finally:
                copies.put(copy)

        survived = 0
        print(f"{'planted mistake':{width}}  result    caught by")
        with ThreadPoolExecutor(JOBS) as pool:
            for mutant, result in zip(mutants, pool.map(judge, mutants), strict=True):
                survived += result != "caught"
                print(f"{mutant.name:{width}}  {result:8}  {', '.join(mutant.tests)}", flush=True)
    print(f"{len(mutants)} mistakes planted, {survived} survived, {time.monotonic() - started:.0f} seconds")
    return 1 if survived else 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except GuardError as error:
        sys.exit(f"guard: {error}")
