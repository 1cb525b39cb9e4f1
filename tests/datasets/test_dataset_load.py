"""The built-in datasets from files, and the hub's refusals."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qpabench.datasets.load import load_published, load_text
from qpabench.datasets.options import PtbOptions, TextOptions, WikiText2Options
from qpabench.errors import InputError, UnavailableError


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("QPABENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def text_options(tmp_path: Path) -> TextOptions:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b.txt").write_text("three\n")
    return TextOptions(train=str(tmp_path / "a.txt"), test=str(tmp_path / "b.txt"))


def test_importing_options_imports_no_torch():
    code = (
        "import sys, qpabench.datasets.options; sys.exit('torch' in sys.modules or 'datasets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_text_keeps_lines(text_options):
    assert load_text(text_options).train == ("one", "", "two")


def test_text_without_validation_has_an_empty_one(text_options):
    assert load_text(text_options).validation == ()


def test_text_relative_to_the_current_folder(text_options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_text(TextOptions(train="a.txt", test="b.txt")).test == ("three",)


def test_text_with_an_absent_file_says_which(tmp_path, text_options):
    options = TextOptions(train=text_options.train, test=str(tmp_path / "c.txt"))
    assert "c.txt' is not there" in options.missing()


def test_text_with_an_empty_file_says_which(tmp_path, text_options):
    (tmp_path / "b.txt").write_text("")
    assert "b.txt' is empty" in text_options.missing()


def test_text_with_a_blank_split_is_an_input_error(tmp_path, text_options):
    (tmp_path / "b.txt").write_text("\n \n")
    with pytest.raises(InputError, match=r"split test has no text \(2 rows, all blank\)"):
        load_text(text_options)


def test_text_fingerprint_follows_the_content(tmp_path, text_options):
    before = text_options.fingerprint()
    (tmp_path / "b.txt").write_text("threE\n")
    assert text_options.fingerprint() != before


def test_text_fingerprint_of_an_absent_file_is_marked(tmp_path, text_options):
    (tmp_path / "b.txt").unlink()
    assert text_options.fingerprint().endswith("test=absent")


@pytest.mark.parametrize(("variant", "line"), [("raw", "raw"), ("tokenised", "<unk>")])
def test_wikitext_folder_gives_the_variant_asked_for(tmp_path, variant, line):
    for split in ("train", "valid", "test"):
        (tmp_path / f"wiki.{split}.raw").write_text("raw\n")
        (tmp_path / f"wiki.{split}.tokens").write_text("<unk>\n")
    assert load_published(WikiText2Options(path=str(tmp_path), variant=variant)).train == (line,)


def test_wikitext_folder_of_parquet_in_the_hubs_layout(tmp_path):
    folder = tmp_path / "wikitext-2-raw-v1"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        pq.write_table(pa.table({"text": ["", f" {split} \n"]}), folder / f"{split}-00000-of-00001.parquet")
    assert load_published(WikiText2Options(path=str(tmp_path))).validation == ("", " validation ")


def test_ptb_folder_in_the_parquet_branchs_layout(tmp_path):
    for split in ("train", "validation", "test"):
        folder = tmp_path / "penn_treebank" / split
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"sentence": [split]}), folder / "0000.parquet")
    assert load_published(PtbOptions(path=str(tmp_path))).test == ("test",)


def test_folder_without_a_test_file_is_missing(tmp_path):
    (tmp_path / "train.txt").write_text("a\n")
    assert "has no test file" in WikiText2Options(path=str(tmp_path)).missing()


def test_uncached_dataset_offline_is_missing_with_the_download_command():
    assert "`hf download --repo-type dataset" in WikiText2Options().missing()


def test_absent_datasets_package_is_missing_with_the_pip_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert 'pip install "qpabench[hub]"' in PtbOptions().missing()


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="needs the extra hub")
def test_unreachable_hub_is_unavailable(monkeypatch):
    def unreachable(*_args, **_options):
        raise ConnectionError("no route\nto host")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", unreachable)
    with pytest.raises(UnavailableError, match=r"can't be reached.*`hf download"):
        load_published(WikiText2Options())


def test_fingerprint_of_a_repository_names_its_revision():
    assert PtbOptions().fingerprint() == "hub:ptb-text-only/ptb_text_only@refs/convert/parquet"
