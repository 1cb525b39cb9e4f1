"""Full disks, read-only folders, no permission, clocks that are off."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import Done
from subject import Faults, Subject, is_root

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
    stream, judged = faults.random(fault), []
    needed = {"run": {"size": 400_000, "nr_inodes": 50}, "cache": {"size": 400_000, "nr_inodes": 20}}
    for _ in range(faults.times(5)):
        subject = faults.subject()
        room = stream.randrange(4 if limit == "nr_inodes" else 4096, needed[place][limit])
        with small_disk(subject.folder / place, f"{limit}={room}") as why:
            if why:
                return faults.impossible(fault, why)
            done = subject.run()
            if done.code:
                assert_stopped_in_one_line(done, "No space left on device")
            assert not mount("-o", f"remount,{ROOMY}", str(subject.folder / place))
            subject.finish()
            if done.code:
                judged.append(faults.judge(subject))
    faults.count(fault, len(judged), judged)


def test_a_read_only_folder_stops_the_run_in_one_line(faults: Faults) -> None:
    judged = []
    for number in range(faults.times(4)):
        subject, place = faults.subject(), ("run", "cache")[number % 2]
        with small_disk(subject.folder / place, ROOMY) as why:
            if why:
                return faults.impossible("read-only folder", why)
            started = subject.start()
            time.sleep(faults.random(f"read-only {number}").uniform(0.3, 0.8) * faults.seconds)
            started.kill()
            started.communicate()
            assert not mount("-o", "remount,ro", str(subject.folder / place))
            if place == "run" or not list(subject.cache.glob("features/*/sums.json")):
                assert_stopped_in_one_line(subject.run("--fresh"), "Read-only file system")
            assert not mount("-o", "remount,rw", str(subject.folder / place))
            subject.finish()
            judged.append(faults.judge(subject))
    faults.count("read-only folder", len(judged), judged)


def obey_permissions() -> None:
    """Give up root's right to read and write everything, in the child that is about to be started."""
    for capability in MAY_OVERRIDE_PERMISSIONS:
        ctypes.CDLL(None).prctl(DROP_CAPABILITY, capability)


@pytest.mark.parametrize("place", ["run", "run/records", "run/locks", "run/logs", "cache/features"])
def test_a_missing_permission_stops_the_run_in_one_line(faults: Faults, place: str) -> None:
    subject = faults.subject()
    assert subject.run().code == 0
    folder = subject.folder / place
    if place.startswith("cache"):  # something is to be made there
        for built in folder.iterdir():
            subprocess.run(["rm", "-rf", str(built)], check=True)
    (subject.root / "records" / f"{subject.ids()[0]}.json").unlink()
    folder.chmod(0o555)
    if place in ("run/locks", "run/logs"):
        subprocess.run(["rm", "-rf", *map(str, folder.iterdir())], check=True)
    if os.access(folder, os.W_OK) and not is_root():
        return faults.impossible(f"no permission, {place}", "permissions don't bind here")
    assert_stopped_in_one_line(subject.run(preexec_fn=obey_permissions), "Permission denied")
    folder.chmod(0o755)
    subject.finish()
    faults.count(f"no permission, {place}", 1, [faults.judge(subject)])


def test_a_record_that_may_not_be_read_stays_where_it_is(faults: Faults) -> None:
    subject = faults.subject()
    assert subject.run().code == 0
    path = subject.root / "records" / f"{subject.ids()[0]}.json"
    path.chmod(0)
    assert_stopped_in_one_line(subject.run(preexec_fn=obey_permissions), "Permission denied")
    path.chmod(0o644)
    subject.finish()
    faults.count("no permission to read a record", 1, [faults.judge(subject)])


@pytest.mark.parametrize("seconds", [-TEN_YEARS_SECONDS, TEN_YEARS_SECONDS], ids=["back", "forward"])
def test_a_clock_that_is_off_changes_nothing(faults: Faults, seconds: int) -> None:
    subject = faults.subject()
    process = subject.start()
    time.sleep(0.7 * faults.seconds)
    process.kill()
    process.communicate()
    set_times(subject, time.time() - seconds)
    done = subject.run(variables={"QPABENCH_TEST_CLOCK": str(seconds)})
    assert done.code == 0, done
    faults.count(f"clock set {'back' if seconds < 0 else 'forward'} ten years", 1, [faults.judge(subject)])


def set_times(subject: Subject, moment: float) -> None:
    """Date every file, so that it lies in the future or in the past of the clock."""
    for root in (subject.root, subject.cache):
        for path in root.rglob("*"):
            os.utime(path, (moment, moment))
