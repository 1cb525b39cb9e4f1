"""Every file of a run directory and of the cache damaged as a reboot or a failing disk may damage it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from subject import Faults, Subject, ended, side_by_side

BLOCK_BYTES = 4096


def empty(path: Path, stream: random.Random) -> None:
    """Truncate to nothing."""
    path.write_bytes(b"")


def cut(path: Path, stream: random.Random) -> None:
    """Truncate to a random length."""
    content = path.read_bytes()
    path.write_bytes(content[: stream.randrange(max(1, len(content)))])


def zero(path: Path, stream: random.Random) -> None:
    """Zero the last block."""
    content = path.read_bytes()
    lost = min(BLOCK_BYTES, len(content))
    path.write_bytes(content[: len(content) - lost] + bytes(lost))


def flip(path: Path, stream: random.Random) -> None:
    """Flip one random bit."""
    content = bytearray(path.read_bytes())
    if content:
        content[stream.randrange(len(content))] ^= 1 << stream.randrange(8)
    path.write_bytes(content)


def delete(path: Path, stream: random.Random) -> None:
    """Remove."""
    path.unlink()


Damage = Callable[[Path, random.Random], None]
Injected = tuple[int, tuple[int, int], int]  # how often; cells lost, cells wrong; files set aside
DAMAGES = [empty, cut, zero, flip, delete]


@pytest.fixture(scope="module")
def halfway(faults: Faults) -> Subject:
    """A run that a reboot stopped while a cell had a checkpoint."""
    subject = faults.with_features()
    process = subject.start()
    while not list((subject.root / "records").glob("*.checkpoint.safetensors")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    ended(process)
    return subject


def files(root: Path, pattern: str) -> list[Path]:
    """Return the files that match, those set aside left out."""
    return sorted(path for path in root.glob(pattern) if path.is_file() and "damaged" not in path.parts)


@pytest.mark.parametrize("ending", ["json", "npz", "safetensors"])
def test_damaged_records_series_and_weights_are_set_aside_and_made_again(faults: Faults, ending: str) -> None:
    def disturb(number: int) -> Injected:
        damage = DAMAGES[number]
        subject, stream = faults.subject(faults.undisturbed), faults.random(f"{damage.__name__} {ending}")
        harmed = files(subject.root, f"records/*.{ending}")
        told = {path: str(path.relative_to(subject.folder)) for path in harmed}
        return inject(faults, subject, damage, stream, harmed, told)

    count_each_damage(faults, f"records/*.{ending}", side_by_side(disturb, len(DAMAGES)))


def inject(
    faults: Faults,
    subject: Subject,
    damage: Damage,
    stream: random.Random,
    harmed: list[Path],
    told: Mapping[Path, str],
) -> Injected:
    """Damage files and finish the run; some must be set aside and told of, unless they were removed."""
    for path in harmed:
        damage(path, stream)
    done = subject.finish()
    aside = files_set_aside(subject)
    if damage is not delete:
        assert {path.name for path in told} <= aside
        assert all(text in done.err for text in told.values()), done.err
    return len(harmed), faults.judge(subject), len(aside)


def count_each_damage(faults: Faults, where: str, done: list[Injected]) -> None:
    """Add a row for each damage."""
    for damage, (times, judged, aside) in zip(DAMAGES, done, strict=True):
        faults.count(f"{damage.__name__}: {where}", times, [judged], aside)


def files_set_aside(subject: Subject) -> set[str]:
    """Return their names."""
    return {path.name for path in (subject.root / "records" / "damaged").glob("*")}


@pytest.mark.parametrize("state", ["whole", "halfway"])
def test_all_other_files_of_a_run_directory_are_made_again(
    faults: Faults, halfway: Subject, state: str
) -> None:
    """Manifest, report, results, figures, locks, logs, and the checkpoint of a cell that was stopped."""
    like = halfway if state == "halfway" else faults.undisturbed

    def disturb(number: int) -> Injected:
        damage = DAMAGES[number]
        subject, stream = faults.subject(like), faults.random(damage.__name__)
        kept = {path for ending in ("json", "npz") for path in files(subject.root, f"records/*.{ending}")}
        weights = set(files(subject.root, "records/*.safetensors"))
        checkpoints = set(files(subject.root, "records/*.checkpoint.safetensors"))
        harmed = [path for path in files(subject.root, "**/*") if path not in kept | (weights - checkpoints)]
        return inject(faults, subject, damage, stream, harmed, {path: path.name for path in checkpoints})

    count_each_damage(faults, f"all else, run {state}", side_by_side(disturb, len(DAMAGES)))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_files_of_the_cache_are_named_and_made_again(faults: Faults, damage: Damage) -> None:
    """One file a run, each time with one cell to run again; each damage has its share of the files."""
    names = [
        path.relative_to(faults.undisturbed.cache)
        for path in files(faults.undisturbed.cache, "**/*")
        if path.suffix != ".lock"
    ]
    share = faults.random("cache").sample(names, len(names))[DAMAGES.index(damage) :: len(DAMAGES)]
    chosen = share[: faults.times(len(share))]

    def disturb(number: int) -> tuple[int, tuple[int, int]]:
        name, stream = chosen[number], faults.random(f"{damage.__name__} {chosen[number]}")
        subject = faults.subject(faults.undisturbed)
        damage(subject.cache / name, stream)
        (subject.root / "records" / f"{stream.choice(subject.ids())}.json").unlink()
        done = subject.finish()
        # a flipped bit in a list of hashes may name another file than the one that is damaged
        told = f"{name.parent.as_posix()} is removed and made again" in done.out
        assert told or name.parts[0] == "hashes", (name, done)  # a hash is read again, nothing is lost
        return int(told), faults.judge(subject)

    done = side_by_side(disturb, len(chosen))
    faults.count(
        f"{damage.__name__}: a file of the cache",
        len(chosen),
        [pair for _, pair in done],
        sum(n for n, _ in done),
    )
