"""Wrong input: exit 2, one line with file, key, what was found and what was expected; nothing written."""

import re
import time
from pathlib import Path

import pytest
from commands import in_process
from written_suites import DIRECT, QPA, write_suite

HEAD = '[suite]\nname = "x"\n'
DEFAULTS = '[defaults]\nmodel = "tiny-gpt2"\ndataset = "wikitext-2"\n'
MATRIX = '[[matrix]]\ntarget = "lora"\ngenerator = "direct"\n'
VALID = HEAD + DEFAULTS + MATRIX


def matrix(line: str) -> str:
    return HEAD + DEFAULTS + "[[matrix]]\n" + line + "\n"


#: what is wrong -> (suite, key as told, what was found, what was expected)
SUITES = {
    "malformed TOML": ("[suite\n", "", "not TOML", "expected key = value"),
    "key twice": (HEAD + 'name = "y"\n', "", "not TOML", "expected key = value"),
    "empty file": ("", "suite", "missing", r"expected a table \[suite\]"),
    "no matrix": (HEAD + DEFAULTS, "matrix", "found nothing", r"expected at least one table \[\[matrix\]\]"),
    "matrix is one table": (HEAD + DEFAULTS + "[matrix]\n", "matrix", "found", r"\[\[matrix\]\]"),
    "matrix of numbers": (HEAD + DEFAULTS + "", "matrix", "found nothing", "expected"),
    "unknown key at the top": (VALID + "[suites]\n", "suites", "unknown key", "did you mean 'suite'"),
    "unknown key in suite": (
        '[suite]\nname = "x"\ntitel = "t"\n' + DEFAULTS + MATRIX,
        r"suite\.titel",
        "unknown key",
        "did you mean 'title'",
    ),
    "unknown key in defaults": (
        HEAD + DEFAULTS + "modle = 1\n" + MATRIX,
        r"defaults\.modle",
        "unknown key",
        "did you mean 'model'",
    ),
    "unknown key in a matrix": (
        VALID + 'anzatz = "ry"\n',
        r"matrix\[0\]\.anzatz",
        "unknown key",
        "did you mean 'ansatz'",
    ),
    "unknown key in a profile": (
        VALID + "[profiles.laptop]\nmodl = 1\n",
        r"profiles\.laptop\.modl",
        "unknown key",
        "did you mean 'model'",
    ),
    "unknown key in limits": (
        VALID + "[limits]\ntimeout = 3\n",
        r"limits\.timeout",
        "unknown key",
        "did you mean 'timeout_seconds'",
    ),
    "unknown option of a component": (
        matrix('target = { name = "lora", rnak = 1 }\ngenerator = "direct"'),
        r"matrix\[0\]\.target\.rnak",
        "unknown option",
        "did you mean 'rank'",
    ),
    "unknown option of training": (
        VALID + "train = { epoch = 1 }\n",
        r"matrix\[0\]\.train\.epoch",
        "unknown option",
        "did you mean 'epochs'",
    ),
    "unknown component": (
        matrix('target = "lroa"\ngenerator = "direct"'),
        r"matrix\[0\]\.target",
        "unknown target 'lroa'",
        "did you mean 'lora'",
    ),
    "unknown backend": (
        VALID + 'backend = "natve"\n',
        r"\.backend",
        "unknown backend",
        "did you mean 'native'",
    ),
    "unknown protocol": (
        VALID + 'protocol = "paper"\n',
        r"matrix\[0\]\.protocol",
        "found 'paper'",
        "did you mean 'paper-text'",
    ),
    "component without a name": (
        matrix('target = { rank = 1 }\ngenerator = "direct"'),
        r"matrix\[0\]\.target\.name",
        "missing",
        "expected the name of a target",
    ),
    "component is a number": (
        matrix('target = 3\ngenerator = "direct"'),
        r"matrix\[0\]\.target",
        "found int",
        "expected a name or a table",
    ),
    "no generator": (matrix('target = "lora"'), r"matrix\[0\]\.generator", "missing", "expected a name"),
    "text for a number": (
        matrix('target = { name = "lora", rank = "four" }\ngenerator = "direct"'),
        r"matrix\[0\]\.target\.rank",
        "found 'four'",
        "valid integer",
    ),
    "fraction for a whole number": (
        VALID + "train = { epochs = 1.5 }\n",
        r"train\.epochs",
        r"found 1\.5",
        "valid integer",
    ),
    "truth value for a number": (
        matrix('target = { name = "lora", rank = true }\ngenerator = "direct"'),
        r"target\.rank",
        "found True",
        "valid integer",
    ),
    "number for a truth value": (
        VALID + "evaluate = { strided = 1 }\n",
        r"evaluate\.strided",
        "found 1",
        "valid boolean",
    ),
    "date for a number": (
        VALID + "train = { epochs = 1979-05-27 }\n",
        r"train\.epochs",
        "found",
        "valid integer",
    ),
    "table for a number": (
        VALID + "train = { epochs = { a = 1 } }\n",
        r"train\.epochs",
        "found",
        "valid integer",
    ),
    "below the range": (
        matrix('target = { name = "lora", rank = 0 }\ngenerator = "direct"'),
        r"target\.rank",
        "found 0",
        "greater than or equal to 1",
    ),
    "negative learning rate": (
        VALID + "train = { learning_rate = -1e-3 }\n",
        r"train\.learning_rate",
        r"found -0\.001",
        "greater than 0",
    ),
    "beyond the range": (
        VALID + "train = { batch_size = 5000 }\n",
        r"train\.batch_size",
        "found 5000",
        "4096",
    ),
    "not a number": (VALID + "train = { learning_rate = nan }\n", r"train\.learning_rate", "found nan", ""),
    "infinity": (VALID + "train = { learning_rate = inf }\n", r"train\.learning_rate", "found inf", ""),
    "beyond 64 bits": (
        VALID + f"train = {{ epochs = {2**63} }}\n",
        "",
        "beyond 64 bits",
        "expected one within",
    ),
    "another choice": (
        VALID + 'train = { scheduler = "cubic" }\n',
        r"train\.scheduler",
        "found 'cubic'",
        "'linear', 'cosine' or 'constant'",
    ),
    "negative seed": (VALID + "seeds = [-1]\n", r"seeds", "found -1", "whole numbers from 0"),
    "truth value for a seed": (VALID + "seeds = [true]\n", r"seeds", "found True", "whole numbers from 0"),
    "empty axis of an option": (
        matrix('target = { name = "lora", rank = [] }\ngenerator = "direct"'),
        r"matrix\[0\]\.target\.rank",
        "found an empty axis",
        "expected at least one value",
    ),
    "empty axis of components": (
        VALID + "backend = []\n",
        r"matrix\[0\]\.backend",
        "found an empty axis",
        "one value",
    ),
    "empty axis of seeds": (
        VALID + "seeds = []\n",
        r"matrix\[0\]\.seeds",
        "found an empty axis",
        "one value",
    ),
    "empty axis of protocols": (VALID + "protocol = []\n", r"\.protocol", "found an empty axis", "one value"),
    "name with a path": (
        '[suite]\nname = "../../etc/x"\n' + DEFAULTS + MATRIX,
        r"suite\.name",
        r"found '\.\./\.\./etc/x'",
        "expected letters, digits, - and _",
    ),
    "name with a line end": (
        '[suite]\nname = "x\\n"\n' + DEFAULTS + MATRIX,
        r"suite\.name",
        "found",
        "expected letters",
    ),
    "name is a number": (
        "[suite]\nname = 3\n" + DEFAULTS + MATRIX,
        r"suite\.name",
        "found 3",
        "expected letters",
    ),
    "no name": ("[suite]\n" + DEFAULTS + MATRIX, r"suite\.name", "found None", "expected letters"),
    "version is text": (
        HEAD + 'version = "1"\n' + DEFAULTS + MATRIX,
        r"suite\.version",
        "found '1'",
        "expected a number",
    ),
    "title is a number": (
        HEAD + "title = 1\n" + DEFAULTS + MATRIX,
        r"suite\.title",
        "found int",
        "expected text",
    ),
    "suite is a list": ("suite = [1]\n", "suite", "found list", "expected a table"),
    "train is a number": (VALID + "train = 3\n", "train", "found int", "expected a table"),
    "train is a list": (VALID + "train = [{ epochs = 1 }]\n", "train", "found list", "expected a table"),
    "defaults is text": ('defaults = "x"\n' + HEAD + MATRIX, "defaults", "found str", "expected a table"),
    "limit is negative": (
        VALID + "[limits]\ntimeout_seconds = -1\n",
        r"limits\.timeout_seconds",
        "found -1",
        "positive",
    ),
    "limit is not a number": (
        VALID + "[limits]\nmemory_bytes = nan\n",
        r"limits\.memory_bytes",
        "found nan",
        "positive",
    ),
    "profile is a number": (
        VALID + "[profiles]\nlaptop = 3\n",
        r"profiles\.laptop",
        "found int",
        "expected a table",
    ),
    "too many cells": (
        VALID + f"seeds = {list(range(200))}\ntrain = {{ epochs = {list(range(100))} }}\n",
        "",
        "cross to 20000 cells",
        "expected at most 10000",
    ),
    "deeply nested": (
        VALID + "train = { epochs = " + "[" * 3000 + "]" * 3000 + " }\n",
        "",
        "nested too deeply|not TOML",
        "",
    ),
}


def assert_refused(done: object, *patterns: str) -> None:
    assert done.code == 2, done  # type: ignore[attr-defined]
    (line,) = done.err.splitlines()  # type: ignore[attr-defined]
    assert line.startswith("error: ")
    assert line.isprintable()
    for pattern in patterns:
        assert re.search(pattern, line), (pattern, line)


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("case", SUITES, ids=[case.replace(" ", "-") for case in SUITES])
def test_wrong_suite(
    case: str,
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text, *told = SUITES[case]
    monkeypatch.chdir(tmp_path)
    Path("suite.toml").write_text(text)
    done = in_process([command, "suite.toml"], capsys)
    assert_refused(done, r"suite\.toml: ", *told)
    assert [path.name for path in tmp_path.iterdir()] == ["suite.toml"]


#: --set or --only or --profile -> what the line says
ARGUMENTS = {
    ("--set", "train.epochs"): "'train.epochs': expected KEY=VALUE",
    ("--set", "=3"): "expected KEY=VALUE",
    ("--set", "trian.epochs=1"): "unknown key 'trian'; did you mean 'train'",
    ("--set", "train.epoch=1"): r"train\.epoch: unknown option; did you mean 'epochs'",
    ("--set", "train.epochs=abc"): r"train\.epochs: found 'abc'",
    ("--set", "train.epochs=true"): r"train\.epochs: found True",
    ("--set", "train.epochs=[]"): r"train\.epochs: found an empty axis",
    ("--set", "train.epochs.more=1"): r"train\.epochs",
    ("--set", "seeds.x=1"): "seeds: found .*expected whole numbers",
    ("--set", "train=3"): "train: found int, expected a table",
    ("--set", "model=3"): "model: found int",
    ("--set", "model.name.x=3"): r"model\.name: found str, expected a table",
    ("--set", "target.rank=1\nx=2"): r"target\.rank: found",
    ("--set", "train.learning_rate=nan"): "found nan",
    ("--only", "generator"): "expected FIELD OP VALUE",
    ("--only", "generator=direct or generator=qpa"): "expected 'and' or a comma",
    ("--only", "genrator=qpa"): "no cell has a field 'genrator'; did you mean 'generator'",
    ("--only", "generator=nothing"): "none of the 1 cells matches",
    ("--only", "generator=direct and"): "cannot read from character",
    ("--profile", "laptob"): "profile 'laptob' isn't there; did you mean 'laptop'",
    ("--executor", "locl"): "unknown executor 'locl'; did you mean 'local'",
    ("--jobs", "0"): "jobs",
    ("--device", "gpu"): "--device: found 'gpu', expected cpu, cuda or cuda:N",
    ("--device", "cuda:x"): "--device: found 'cuda:x'",
    ("--device", "cuda:007"): "--device: found 'cuda:007'",
    ("--device", ""): "--device: found ''",
    ("--max-cells", "x"): "max-cells",
}


@pytest.mark.parametrize(
    "option", ARGUMENTS, ids=[" ".join(option).replace("\n", "-") for option in ARGUMENTS]
)
def test_wrong_option(
    option: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("suite.toml").write_text(VALID + "[profiles.laptop]\nseeds = [1]\n")
    done = in_process(["run", "suite.toml", *option], capsys)
    assert_refused(done, ARGUMENTS[option])
    assert [path.name for path in tmp_path.iterdir()] == ["suite.toml"]


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = in_process(["plan", str(tmp_path / "absent.toml")], capsys)
    assert_refused(done, "absent.toml: no such file; expected a suite in TOML")


def test_a_folder_for_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(in_process(["plan", str(tmp_path)], capsys), r"cannot read .*; expected a suite in TOML")


def test_a_binary_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "suite.toml").write_bytes(bytes(range(256)))
    done = in_process(["plan", str(tmp_path / "suite.toml")], capsys)
    assert_refused(done, r"cannot read .*; expected a suite in TOML")


def test_a_huge_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "suite.toml").write_bytes(b"#" * (4 * 2**20 + 1))
    assert_refused(
        in_process(["plan", str(tmp_path / "suite.toml")], capsys), "found more than 4194304 bytes"
    )


def test_control_characters_are_shown_not_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(matrix('target = "lo\\u001b[31mra\\r\\n"\ngenerator = "direct"'))
    assert_refused(in_process(["plan", str(suite)], capsys), "unknown target")


def test_an_explosion_is_counted_without_being_expanded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = list(range(1000))
    axes = f"seeds = {many}\ntrain = {{ epochs = {many}, warmup_steps = {many} }}\n"
    suite = write_suite(tmp_path, DIRECT + axes)
    started = time.perf_counter()
    done = in_process(["plan", str(suite), "--max-cells", "100000"], capsys)
    assert_refused(done, "cross to 1000000000 cells, expected at most 100000; .*--max-cells")
    assert time.perf_counter() - started < 10  # expanding would take hours


def test_an_explosion_over_many_tables_is_counted_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(tmp_path, QPA + DIRECT + DIRECT)
    done = in_process(["plan", str(suite), "--max-cells", "2"], capsys)
    assert_refused(done, "cross to 3 cells, expected at most 2")
