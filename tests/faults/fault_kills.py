"""Runners and workers killed or interrupted at random moments."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

from subject import Faults, Subject, ended, side_by_side

KILLS_PER_DIRECTORY = 10
WORKER_KILLS_PER_DIRECTORY = 5


def wait_at_random(process: subprocess.Popen[str], stream: random.Random, seconds: float) -> bool:
    """Wait a while; return whether the process still runs."""
    try:
        process.wait(timeout=stream.uniform(0.2 * seconds, 0.8 * seconds))
    except subprocess.TimeoutExpired:
        return True
    return False


def test_a_runner_killed_at_random_moments_resumes(faults: Faults) -> None:
    """Every third directory has no features yet: those are computed, and killed, too."""
    wanted = faults.times(72)
    directories = -(-wanted // KILLS_PER_DIRECTORY)
    per_directory = -(-wanted // directories)

    def disturb(number: int) -> tuple[int, list[tuple[int, int]]]:
        stream, killed, judged = faults.random(f"runner {number}"), 0, []
        while killed < per_directory:
            (subject, seconds), alive = faults.alternating(number), True
            while alive and killed < per_directory:
                process = subject.start()
                alive = wait_at_random(process, stream, seconds)
                if alive:
                    process.kill()
                    killed += 1
                ended(process)
            subject.finish()
            judged.append(faults.judge(subject))
        return killed, judged

    done = side_by_side(disturb, directories)
    faults.count(
        "SIGKILL of the runner", sum(k for k, _ in done), [pair for _, pairs in done for pair in pairs]
    )


def test_a_killed_worker_is_its_own_row_and_nothing_else(faults: Faults) -> None:
    wanted = faults.times(30)
    directories = -(-wanted // WORKER_KILLS_PER_DIRECTORY)
    per_directory = -(-wanted // directories)

    def disturb(number: int) -> tuple[int, tuple[int, int]]:
        stream, (subject, _) = faults.random(f"worker {number}"), faults.alternating(number)
        killed: set[str] = set()
        injected = 0
        while injected < per_directory:
            process = subject.start("--retry-failed")
            while injected < per_directory and wait_for_worker(process, subject):
                time.sleep(stream.uniform(0, 0.5))
                injected += kill_a_worker(process, subject, stream, killed)
            ended(process)
            check_rows(faults, subject, killed)
            if not process.returncode and injected < per_directory:
                (subject.root / "records" / f"{stream.choice(subject.ids())}.json").unlink()
        subject.finish("--retry-failed")
        return injected, faults.judge(subject)

    done = side_by_side(disturb, directories)
    faults.count("SIGKILL of a worker", sum(k for k, _ in done), [pair for _, pair in done])


def wait_for_worker(process: subprocess.Popen[str], subject: Subject) -> bool:
    """Wait until a worker computes; return whether one does."""
    while process.poll() is None:
        if subject.workers(process):
            return True
        time.sleep(0.02)
    return False


def kill_a_worker(
    process: subprocess.Popen[str], subject: Subject, stream: random.Random, killed: set[str]
) -> int:
    """Kill one; note its cell, or every cell where it computed the features of all."""
    found = subject.workers(process)
    if not found:
        return 0
    pid = stream.choice(sorted(found))
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    killed.update(subject.ids() if found[pid].startswith("features-") else [found[pid]])
    return 1


def check_rows(faults: Faults, subject: Subject, killed: set[str]) -> None:
    """Hold every row against the undisturbed run; only cells whose worker was killed may have failed."""
    for cell_id, expected in faults.expected.items():
        found = subject.outcome(cell_id)
        if found[0] == "ok":
            assert found == expected
        else:
            assert (found[0], cell_id in killed) == ("out-of-memory", True), found


def test_an_interrupted_runner_says_how_to_resume(faults: Faults) -> None:
    def disturb(number: int) -> tuple[int, list[tuple[int, int]]]:
        stream, subject = faults.random(f"interrupt {number}"), faults.subject()
        process = subject.start()
        while process.poll() is None and not (subject.root / "run.json").exists():
            time.sleep(0.02)
        alive = wait_at_random(process, stream, 0.5 * faults.seconds)
        if alive:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the run
        done = ended(process)
        if alive:
            assert done.code == 130, done
            assert done.err.splitlines()[-1].startswith(
                "interrupted; what was measured is in run; resume with:"
            )
            assert not list(subject.root.rglob("*.tmp"))
        subject.finish()
        return int(alive), [faults.judge(subject)]

    done = side_by_side(disturb, faults.times(6))
    faults.count("SIGINT", sum(k for k, _ in done), [pair for _, pairs in done for pair in pairs])
