"""Whatever stands in a file or an argument: exit 0, or one line and exit 2, soon; nothing else happens."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from any_suite import VALID, VALUES, places, replaced, written
from guard import MOST_SECONDS_DRAWING, bounded_memory, end_of
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from mutations import ARGUMENTS, hostile, hostile_json
from mutations import VALUES as HOSTILE

from qpabench.cli import app
from qpabench.hooks import manager
from qpabench.records.record import content_hash
from qpabench.records.store import RunDirectory
from qpabench.reports.report import write_report

ROOT = Path(__file__).parents[2]
#: those that take long to plan are left out: their tables are alike
REAL = tuple(
    path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "suites").rglob("*.toml"))
    if path.name not in ("paper.toml", "does-the-circuit-matter.toml")
)
RELEASED = ROOT / "reports" / "released" / "quickstart"
#: inputs by family: in the default run, and in the whole
INPUTS = {
    "suites": (150, 9000),
    "documents": (60, 3000),
    "settings": (80, 3500),
    "selections": (80, 3500),
    "records": (15, 1500),
    "manifests": (15, 700),
}
SEED = 20250213


def inputs(family: str) -> pytest.MarkDecorator:
    """Run a test on a sample of its inputs by default, and on all with ``-m slow``."""
    sample, whole = INPUTS[family]
    return pytest.mark.parametrize(
        "count", [pytest.param(sample, id="sample"), pytest.param(whole, id="whole", marks=pytest.mark.slow)]
    )


class Tally:
    """Counts how inputs ended and keeps those that ended badly."""

    def __init__(self) -> None:
        self.codes: Counter[object] = Counter()
        self.bad: list[str] = []
        self.slowest = 0.0
        self.started = time.perf_counter()

    def judge(self, arguments: list[str], what: object, **rules: Any) -> None:
        """Run a command line and keep what it did wrong."""
        ended = end_of(arguments, **rules)
        self.codes[ended.code] += 1
        self.slowest = max(self.slowest, ended.seconds)
        if ended.wrong:
            self.bad.append(f"{'; '.join(ended.wrong)}\n  {str(what)[:1500]}")

    def __str__(self) -> str:
        ends = ", ".join(f"{number} ended {code}" for code, number in sorted(self.codes.items(), key=str))
        seconds = time.perf_counter() - self.started
        return f"{self.codes.total()} inputs in {seconds:.0f} s ({ends}), the slowest {self.slowest:.2f} s"


@pytest.fixture
def tally(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Tally]:
    """Judge inputs in an empty folder, with a bound on memory; what no input can change is made once."""
    registry, command = manager.load_registry(), typer.main.get_command(app)
    monkeypatch.setattr(manager, "load_registry", lambda: registry)
    monkeypatch.setattr(typer.main, "get_command", lambda _: command)
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    # what is imported late, and hashes of big files, are kept before anything is watched
    for suite in ("quickstart", "targets"):
        assert end_of(["plan", str(ROOT / "suites" / f"{suite}.toml")], writable=tmp_path).code == 0
    found = Tally()
    with bounded_memory():
        yield found
    with capsys.disabled():
        sys.stdout.write(f"\n{request.node.name}: {found}\n")
    assert not found.bad, f"{len(found.bad)} of {found}\n" + "\n".join(sorted(found.bad)[:40])


@inputs("suites")
def test_mutated_suites(tally: Tally, tmp_path: Path, count: int) -> None:
    chance = random.Random(SEED)
    suite, other = tmp_path / "suite.toml", tmp_path / "b.toml"
    other.write_text('include = ["suite.toml"]\n[suite]\nname = "b"\n')
    for _ in range(count):
        data = hostile(chance.choice(REAL), chance, REAL)
        suite.write_bytes(data)
        tally.judge(_plan(suite, chance), data)


@inputs("documents")
def test_documents_of_any_values(tally: Tally, tmp_path: Path, count: int) -> None:
    suite = tmp_path / "suite.toml"
    content = {**VALID, "verdict": _VERDICT, "figures": [{"x": "target.rank", "y": ["perplexity_padded"]}]}

    @seed(SEED)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(place=st.sampled_from([place for place in places(content) if place]), value=VALUES)
    def judge(place: tuple[Any, ...], value: Any) -> None:
        data = written(replaced(content, place, value))
        suite.write_text(data, encoding="utf-8")
        tally.judge(["plan", str(suite), "--max-cells", "100"], data)

    judge()


@inputs("settings")
def test_settings(tally: Tally, tmp_path: Path, count: int) -> None:
    chance = random.Random(SEED)
    suite = tmp_path / "suite.toml"
    suite.write_text(written(VALID), encoding="utf-8")
    keys = [
        ".".join(map(str, place)) for place in places({**VALID["defaults"], **VALID["matrix"][0]}) if place
    ]
    for _ in range(count):
        texts = [f"{chance.choice(keys)}={chance.choice(HOSTILE)}", chance.choice(ARGUMENTS)]
        texts.append(hostile(chance.choice(texts), chance).decode(errors="surrogateescape"))
        given = [text.replace("\0", "") for text in chance.sample(texts, chance.randint(1, 3))]
        tally.judge(["plan", str(suite), "--max-cells", "100", *(f"--set={text}" for text in given)], given)


@inputs("selections")
def test_selections(tally: Tally, tmp_path: Path, count: int) -> None:
    chance = random.Random(SEED)
    suite = tmp_path / "suite.toml"
    good = ("generator=qpa and n_qubits>=2", "target.rank<=1, seed=0", "label='*lora*'", "train.epochs!=3")
    for _ in range(count):
        text = chance.choice((*ARGUMENTS, *good))
        if chance.random() < 0.7:
            text = hostile(text, chance, good).decode(errors="surrogateescape")
        text = text.replace("\0", "")
        if chance.random() < 0.5:
            suite.write_text(written(VALID), encoding="utf-8")
            tally.judge(["plan", str(suite), f"--only={text}"], text)
        else:
            family = {**_VERDICT["families"][0], chance.choice(("name", "cell", "against")): text}
            verdict = {**_VERDICT, "families": [family]}
            suite.write_text(written({**VALID, "verdict": verdict}), encoding="utf-8")
            tally.judge(["plan", str(suite)], text)


@inputs("records")
def test_records(tally: Tally, tmp_path: Path, count: int) -> None:
    """Edited, damaged and forged (their hash fits) records, read by ``compare``, some by ``report``."""
    chance = random.Random(SEED)
    good = tmp_path / "good"
    records = _released(good)
    _draw_once(good)
    for _ in range(count):
        run = tmp_path / "run"
        cell_id, text = chance.choice(list(records.items()))
        if chance.random() < 0.75:
            content = hostile_json(json.loads(text), chance)
            if isinstance(content, dict):
                content["content_hash"] = content_hash(content)
            data = json.dumps(content).encode(errors="surrogatepass")
        else:
            data = hostile(text, chance)
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(good, run)
        (run / "records" / f"{cell_id}.json").write_bytes(data)
        _read(tally, run, good, chance, data)


@inputs("manifests")
def test_manifests(tally: Tally, tmp_path: Path, count: int) -> None:
    chance = random.Random(SEED)
    good = tmp_path / "good"
    cells = list(_released(good))
    _draw_once(good)
    manifest = json.loads((good / "run.json").read_text(encoding="utf-8"))
    about = {"name": "part", "title": "A part", "summary": "", "cells": cells[:2]}
    figure = {"x": "n_trainable", "y": ["perplexity_padded"]}
    manifest |= {
        "figures": [figure],
        "verdict": {
            "margin_nats": 0.1,
            "families": [{"name": "q", "cell": cells[:1], "against": [cells[1:2]]}],
        },
    }
    for number in range(count):
        run = tmp_path / "run"
        content = manifest | ({"members": [about | {"figures": [figure]}]} if number % 2 else {})
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(good, run)
        data = json.dumps(hostile_json(content, chance)).encode(errors="surrogatepass")
        (run / "run.json").write_bytes(data if chance.random() < 0.9 else hostile(data.decode(), chance))
        _read(tally, run, good, chance, data)


_VERDICT: dict[str, Any] = {
    "margin_nats": 0.1,
    "families": [
        {
            "name": "q",
            "cell": "generator=direct and target.rank=1 and train.learning_rate=0.1",
            "against": ["target.rank=2"],
        }
    ],
}


def _plan(suite: Path, chance: random.Random) -> list[str]:
    arguments = ["plan", str(suite), "--max-cells", chance.choice(("20", "60", "200"))]
    arguments += ["--json"] if chance.random() < 0.3 else []
    return arguments + (
        ["--profile", chance.choice(("full", "p", "\x1b[1m"))] if chance.random() < 0.2 else []
    )


def _released(folder: Path) -> dict[str, str]:
    """Put a few released cells into a run directory; returns their records' text by id."""
    source, target = RunDirectory(RELEASED), RunDirectory(folder)
    manifest = source.manifest()
    cells = manifest["cells"][:3]
    for cell_id in cells:
        record = source.read(cell_id)
        assert record is not None
        target.write(record, {name: values[:200] for name, values in source.series(cell_id).items()})
    target.write_manifest({**manifest, "cells": cells})
    return {cell_id: (target.records / f"{cell_id}.json").read_text(encoding="utf-8") for cell_id in cells}


def _draw_once(run: Path) -> None:
    """Draw a report before anything is watched: matplotlib is imported late and keeps a list of fonts."""
    write_report(run)


def _read(tally: Tally, run: Path, good: Path, chance: random.Random, data: object) -> None:
    tally.judge(["compare", str(good), str(run), "--all"], data, writable=run)  # it sets damaged ones aside
    if chance.random() < 0.03:
        tally.judge(["report", str(run)], data, writable=run, most_seconds=MOST_SECONDS_DRAWING)
        text = "".join(path.read_text(encoding="utf-8") for path in run.glob("*.md"))
        odd = {char for char in text if char != "\n" and not char.isprintable()}
        if odd or "<script" in text:
            tally.bad.append(f"report.md with {sorted(odd)!r} or a script\n  {str(data)[:500]}")
