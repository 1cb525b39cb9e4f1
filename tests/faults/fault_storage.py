"""Full disks, read-only folders, no permission, clocks that are off."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import Done
from subject import Faults, Subject, ended, is_root, side_by_side

ROOMY = f"size={256 << 20},nr_inodes=100000"
DROP_CAPABILITY, MAY_OVERRIDE_PERMISSIONS = 24, (1, 2)  # of prctl; CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
TEN_YEARS_SECONDS = 10 * 365 * 86400


def mount(*arguments: str) -> str:
    """Mount; return why it can't be done, empty when it is."""
    if not is_root():
        return "only root may mount"
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "no mount command"
    return done.stderr.strip() if done.returncode else ""


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[str]:
    """Put a file system of its own under a folder, with what the folder holds."""
    folder.mkdir(exist_ok=True)
    why = mount("-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    try:
        yield why
    finally:
        if not why:
            subprocess.run(["umount", str(folder)], check=True)


def assert_stopped_in_one_line(done: Done, what: str) -> None:
    """Hold an end against the promise: exit code 1, one line that says what to do, nothing damaged."""
    assert done.code == 1, done
    (line,) = [line for line in done.err.splitlines() if not line.startswith("warning: ")]
    assert line.startswith("error: "), line
    assert what in line, line
    assert line.endswith("then run again"), line


@pytest.mark.parametrize("place", ["run", "cache"])
@pytest.mark.parametrize("limit", ["size", "nr_inodes"])
def test_a_full_disk_stops_the_run_in_one_line(faults: Faults, place: str, limit: str) -> None:
    fault = f"disk full ({limit}), {place}"
    least, needed = (4096, bytes_in) if limit == "size" else (4, entries_in)
    # the rest of a cache is what a run does without
    enough = needed({"run": faults.undisturbed.root, "cache": faults.undisturbed.cache / "features"}[place])

    def disturb(number: int) -> tuple[int, int] | str | None:
        subject = faults.with_features() if place == "run" else faults.subject()
        stream = faults.random(f"{fault} {number}")
        room = stream.randrange(least, enough)
        with small_disk(subject.folder / place, f"{limit}={room}") as why:
            if why:
                return why
            done = subject.run()
            if done.code:
                assert_stopped_in_one_line(done, "No space left on device")
            assert not mount("-o", f"remount,{ROOMY}", str(subject.folder / place))
            subject.finish()
            return faults.judge(subject) if done.code else None

    count_possible(faults, fault, side_by_side(disturb, faults.times(4)))


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def entries_in(folder: Path) -> int:
    """Return the number of files and folders below a folder."""
    return sum(1 for _ in folder.rglob("*"))


def count_possible(faults: Faults, fault: str, done: list[tuple[int, int] | str | None]) -> None:
    """Add a row: what was judged, or why the fault could not be injected here; None: it had no effect."""
    for found in done:
        if isinstance(found, str):
            return faults.impossible(fault, found)
    judged = [found for found in done if isinstance(found, tuple)]
    faults.count(fault, len(judged), judged)


def test_a_read_only_folder_stops_the_run_in_one_line(faults: Faults) -> None:
    def disturb(number: int) -> tuple[int, int] | str | None:
        subject, place = faults.subject(), ("run", "cache")[number % 2]
        with small_disk(subject.folder / place, ROOMY) as why:
            if why:
                return why
            started = subject.start()
            time.sleep(faults.random(f"read-only {number}").uniform(0.3, 0.8) * faults.seconds)
            started.kill()
            ended(started)
            assert not mount("-o", "remount,ro", str(subject.folder / place))
            if place == "run" or not list(subject.cache.glob("features/*/sums.json")):
                assert_stopped_in_one_line(subject.run("--fresh"), "Read-only file system")
            assert not mount("-o", "remount,rw", str(subject.folder / place))
            subject.finish()
            return faults.judge(subject)

    count_possible(faults, "read-only folder", side_by_side(disturb, faults.times(4)))


#: gives up root's right to read and write everything, then becomes the program that follows
OBEY_PERMISSIONS = f"""
import ctypes, os, sys
for capability in {MAY_OVERRIDE_PERMISSIONS}:
    ctypes.CDLL(None).prctl({DROP_CAPABILITY}, capability)
os.execv(sys.argv[1], sys.argv[1:])
"""
OBEDIENT = (sys.executable, "-S", "-c", OBEY_PERMISSIONS)


def test_a_missing_permission_stops_the_run_in_one_line(faults: Faults) -> None:
    places = ["run", "run/records", "run/locks", "cache/features"]

    def disturb(number: int) -> tuple[int, int] | str | None:
        subject = faults.subject(faults.undisturbed)
        folder = subject.folder / places[number]
        if folder.is_relative_to(subject.cache):  # something is to be made there
            empty(folder)
        (subject.root / "records" / f"{subject.ids()[0]}.json").unlink()
        folder.chmod(0o555)
        if folder.name == "locks":
            empty(folder)
        if os.access(folder, os.W_OK) and not is_root():
            return "permissions don't bind here"
        assert_stopped_in_one_line(subject.run(launcher=OBEDIENT), "Permission denied")
        folder.chmod(0o755)
        subject.finish()
        return faults.judge(subject)

    for place, found in zip(places, side_by_side(disturb, len(places)), strict=True):
        count_possible(faults, f"no permission, {place}", [found])


def empty(folder: Path) -> None:
    """Remove what a folder holds."""
    subprocess.run(["rm", "-rf", *map(str, folder.iterdir())], check=True)


def test_a_record_that_may_not_be_read_stays_where_it_is(faults: Faults) -> None:
    subject = faults.subject(faults.undisturbed)
    path = subject.root / "records" / f"{subject.ids()[0]}.json"
    path.chmod(0)
    assert_stopped_in_one_line(subject.run(launcher=OBEDIENT), "Permission denied")
    path.chmod(0o644)
    subject.finish()
    faults.count("no permission to read a record", 1, [faults.judge(subject)])


def test_a_clock_that_is_off_changes_nothing(faults: Faults) -> None:
    directions = {"back": -TEN_YEARS_SECONDS, "forward": TEN_YEARS_SECONDS}

    def disturb(number: int) -> tuple[int, int]:
        seconds = list(directions.values())[number]
        subject = faults.subject()
        process = subject.start()
        time.sleep(0.7 * faults.seconds)
        process.kill()
        ended(process)
        set_times(subject, time.time() - seconds)
        done = subject.run(variables={"QPABENCH_TEST_CLOCK": str(seconds)})
        assert done.code == 0, done
        return faults.judge(subject)

    for direction, judged in zip(directions, side_by_side(disturb, len(directions)), strict=True):
        faults.count(f"clock set {direction} ten years", 1, [judged])


def set_times(subject: Subject, moment: float) -> None:
    """Date every file, so that it lies in the future or in the past of the clock."""
    for root in (subject.root, subject.cache):
        for path in root.rglob("*"):
            os.utime(path, (moment, moment))
