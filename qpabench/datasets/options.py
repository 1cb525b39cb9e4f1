"""What may be asked of the built-in datasets, and what of them is missing here."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from qpabench import hub
from qpabench.datasets import files
from qpabench.hooks.entries import DatasetOptions
from qpabench.paths import LocalPath

INSTALL = 'python -m pip install "qpabench[hub]"'


class TextOptions(DatasetOptions):
    """Text or parquet files given in the suite, one line = one row."""

    train: LocalPath = Field(min_length=1, description="file, relative to the current folder")
    validation: LocalPath | None = Field(default=None, min_length=1, description="file for choosing settings")
    test: LocalPath = Field(min_length=1, description="file")

    def files(self) -> dict[str, list[Path]]:
        """Return the files by split."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: [Path(path).expanduser()] for split, path in named.items() if path is not None}

    def missing(self) -> str | None:
        """Name the first file that isn't there or is empty."""
        for split, (file,) in self.files().items():
            if not file.is_file():
                kind = "a folder" if file.is_dir() else "not there"
                return f"{split} = {str(file)!r} is {kind}; expected a UTF-8 text or parquet file"
            if file.stat().st_size == 0:
                return f"{split} = {str(file)!r} is empty; expected one row per line"
        return None

    def fingerprint(self) -> str:
        """Return a hash of each file's content."""
        return files.fingerprint(self.files())


class PublishedOptions(DatasetOptions):
    """A dataset from the hub (by the ``datasets`` library) or from a local folder."""

    path: LocalPath | None = Field(
        default=None, min_length=1, description="local folder with train, validation and test files"
    )

    repo: ClassVar[str]
    #: the column of a table that holds the text
    column: ClassVar[str] = "text"
    #: lines of each split on the hub
    n_lines: ClassVar[Mapping[str, int]] = {}

    def published_rows(self) -> Mapping[str, int]:
        """Return the lines of each split on the hub; nothing of a local folder or of blocks."""
        return self.n_lines if self.path is None and self.rows == "lines" else {}

    def revision_used(self) -> str:
        """Return the branch, tag or commit on the hub."""
        raise NotImplementedError

    def hub_arguments(self) -> dict[str, object]:
        """Return what ``datasets.load_dataset`` is called with, the repository aside."""
        raise NotImplementedError

    def suffixes(self) -> tuple[str, ...]:
        """Return the kinds of files read from ``path``, best first."""
        return (".parquet", ".txt")

    def search_folder(self) -> Path:
        """Return the folder inside ``path`` that is searched."""
        assert self.path is not None
        return Path(self.path).expanduser()

    def files(self) -> dict[str, list[Path]]:
        """Return the files of ``path`` by split."""
        return files.split_files(self.search_folder(), self.suffixes())

    def missing(self) -> str | None:
        """Say which file, package or download is missing."""
        if self.path is not None:
            absent = [split for split in ("train", "test") if split not in self.files()]
            if absent:
                return (
                    f"{self.search_folder()} has no {' and no '.join(absent)} file; expected names such as "
                    f"train{self.suffixes()[0]}, validation{self.suffixes()[0]}, test{self.suffixes()[0]}"
                )
            return None
        if importlib.util.find_spec("datasets") is None:
            return f"the datasets package is not installed; {INSTALL}, or give a local folder as path"
        if hub.is_offline() and not self.cached():
            return self.advice("it is not on this machine and HF_HUB_OFFLINE forbids asking the hub")
        return None

    def advice(self, problem: str) -> str:
        """Return one line that says how to get the text.

        Args:
            problem: what was found.
        """
        return (
            f"dataset {self.repo}: {problem}; on a machine with network run `hf download --repo-type dataset "
            f"--revision {self.revision_used()} --local-dir FOLDER {self.repo}` and give FOLDER as path"
        )

    def fingerprint(self) -> str:
        """Return repository and revision, or a hash of the files."""
        if self.path is not None:
            return files.fingerprint(self.files())
        return f"hub:{self.repo}@{self.revision_used()}"

    def cached(self) -> bool:
        """Tell whether some of the dataset was downloaded before."""
        home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
        tables = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets").expanduser()
        downloads = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
        folders = (
            tables / self.repo.replace("/", "___"),
            downloads / f"datasets--{self.repo.replace('/', '--')}",
        )
        return any(folder.is_dir() for folder in folders)


class WikiText2Options(PublishedOptions):
    """WikiText-2: raw (the paper's) or the tokenised release with ``<unk>``."""

    variant: Literal["raw", "tokenised"] = "raw"
    revision: str = Field(default="main", min_length=1, description="branch, tag or commit on the hub")

    repo: ClassVar[str] = "Salesforce/wikitext"
    n_lines: ClassVar[Mapping[str, int]] = {"train": 36718, "validation": 3760, "test": 4358}
    #: rows of the published data end in a line end, which the released code encodes too
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"released-code": {"line_end": True}}

    @property
    def config_name(self) -> str:
        """The name of the variant on the hub."""
        return "wikitext-2-raw-v1" if self.variant == "raw" else "wikitext-2-v1"

    def revision_used(self) -> str:
        """Return the branch, tag or commit on the hub."""
        return self.revision

    def hub_arguments(self) -> dict[str, object]:
        """Return the configuration and revision."""
        return {"name": self.config_name, "revision": self.revision}

    def suffixes(self) -> tuple[str, ...]:
        """Return the kinds of files, the variant's own before plain text."""
        return (".parquet", ".raw" if self.variant == "raw" else ".tokens", ".txt")

    def search_folder(self) -> Path:
        """Return the variant's sub-folder where there is one."""
        folder = super().search_folder()
        inner = folder / self.config_name
        return inner if inner.is_dir() else folder


class PtbOptions(PublishedOptions):
    """Penn Treebank in the common language-modelling preprocessing."""

    revision: str = Field(default="refs/convert/parquet", min_length=1, description="branch on the hub")

    repo: ClassVar[str] = "ptb-text-only/ptb_text_only"
    column: ClassVar[str] = "sentence"
    n_lines: ClassVar[Mapping[str, int]] = {"train": 42068, "validation": 3370, "test": 3761}

    def revision_used(self) -> str:
        """Return the branch: that of the parquet files, because dataset scripts are no longer run."""
        return self.revision

    def hub_arguments(self) -> dict[str, object]:
        """Return the files of the parquet branch."""
        names = {split: f"penn_treebank/{split}/*.parquet" for split in files.SPLITS}
        return {"data_files": names, "revision": self.revision}
