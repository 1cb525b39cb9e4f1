"""Load the built-in datasets as lines."""

from __future__ import annotations

from pathlib import Path

from qpabench import hub
from qpabench.datasets import files
from qpabench.datasets.options import PublishedOptions, TextOptions
from qpabench.datasets.splits import Splits
from qpabench.errors import InputError, UnavailableError, one_line


def load_text(options: TextOptions) -> Splits:
    """Load the files a suite names.

    Raises:
        InputError: a file is absent, empty or not UTF-8, or a split has no text.
    """
    problem = options.missing()
    if problem:
        raise InputError(f"dataset text: {problem}")
    return _from_files("dataset text", options.files(), "text")


def load_published(options: PublishedOptions) -> Splits:
    """Load ``wikitext-2`` or ``ptb`` from a local folder or the hub.

    Raises:
        UnavailableError: not here and not to be had; the message says how to get it.
        InputError: a file can't be read, or a split has no text.
    """
    problem = options.missing()
    if problem:
        raise UnavailableError(problem)
    if options.path is not None:
        return _from_files(f"dataset {options.path}", options.files(), options.column)
    return _from_hub(options)


def _from_files(name: str, found: dict[str, list[Path]], column: str) -> Splits:
    lines = {
        split: tuple(line for file in found.get(split, []) for line in files.read(file, column))
        for split in files.SPLITS
    }
    return files.checked(name, **lines)


def _from_hub(options: PublishedOptions) -> Splits:
    try:
        if not options.cached():  # a download would retry for long
            hub.commit(options.repo, options.revision_used(), "dataset")
        import datasets

        bars = not datasets.are_progress_bars_disabled()
        datasets.disable_progress_bars()
        try:
            with hub.quiet_hub():
                tables = datasets.load_dataset(options.repo, **options.hub_arguments())
        finally:
            if bars:
                datasets.enable_progress_bars()
    except Exception as error:  # network, proxies, renamed repositories, disk: not to be had now
        raise UnavailableError(options.advice(one_line(error, 160))) from error
    absent = [split for split in files.SPLITS if split not in tables]
    if absent:
        raise InputError(f"dataset {options.repo}: no split {absent[0]}; found {', '.join(tables)}")
    lines = {split: files.clean_rows(list(tables[split][options.column])) for split in files.SPLITS}
    return files.checked(f"dataset {options.repo}", **lines)
