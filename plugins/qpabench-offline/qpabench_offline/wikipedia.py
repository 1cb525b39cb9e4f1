"""The Wikipedia sample: articles of a dump, markup removed, split by article.

Cleaning: gensim's ``filter_wiki`` removes the markup; then bold and italic quotes, empty brackets that
removed templates leave, table rows and lines without a letter go; blanks at both ends are cut and runs of
blank lines become one. Headings (``==History==``) and list items stay as they come. Pages that are
redirects or have no text are left out.
"""

from __future__ import annotations

import bz2
import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path

from qpabench import UnavailableError
from qpabench.cache import file_hash, published
from qpabench.datasets.files import checked, read_lines
from qpabench.datasets.splits import Splits
from qpabench_offline.options import WikipediaSampleOptions, package_version

SPLITS = ("train", "validation", "test")
QUOTES = re.compile(r"'{2,}")
EMPTY_BRACKETS = re.compile(r" ?\([\s,;:]*\)")
TABLE_LINE = re.compile(r"\s*(\{\||\|\}|\||!)")


def load(options: WikipediaSampleOptions) -> Splits:
    """Load the articles: some seconds the first time, milliseconds later.

    Returns:
        Lines of about 80, 10 and 10 percent of the articles.

    Raises:
        UnavailableError: gensim isn't installed; the message holds the command.
    """
    problem = options.missing()
    file = options.file()
    if problem or file is None:
        raise UnavailableError(f"dataset wikipedia-sample: {problem}")
    name = f"wikipedia-sample/{package_version('gensim')}-{file_hash(file)[:32]}-{options.recipe}"
    folder = published(name, lambda draft: write_splits(file, draft))
    train, validation, test = (read_lines(folder / f"{split}.txt") for split in SPLITS)
    return checked("dataset wikipedia-sample", train, validation, test)


def write_splits(file: Path, folder: Path) -> None:
    """Write one text file per split.

    Args:
        file: the compressed dump.
        folder: an empty folder.
    """
    texts = dict(articles(file))
    split_of = assign(texts)
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    for title, text in texts.items():
        lines[split_of[title]] += [*clean(text), ""]
    for split, kept in lines.items():
        (folder / f"{split}.txt").write_text("\n".join(kept) + "\n", "utf-8", newline="\n")


def articles(file: Path) -> Iterator[tuple[str, str]]:
    """Yield (title, text without markup) of every article in the order of the dump."""
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    with bz2.open(file) as dump:
        for title, source, _page_id in extract_pages(dump, filter_namespaces=("0",)):
            if source and not source.lstrip().upper().startswith("#REDIRECT"):
                text = filter_wiki(source)
                if text.strip():
                    yield title, text


def assign(titles: Iterable[str]) -> dict[str, str]:
    """Return each article's split: in the order of the titles' hashes, a tenth validation, a tenth test.

    Args:
        titles: all titles; their order doesn't matter.
    """
    drawn = sorted(titles, key=lambda title: hashlib.sha256(title.encode()).digest())
    tenth = math.ceil(len(drawn) / 10)
    names = ["validation"] * tenth + ["test"] * tenth
    return dict(zip_longest(drawn, names[: len(drawn)], fillvalue="train"))


def clean(text: str) -> list[str]:
    """Return an article's lines without what removed markup leaves behind (see above)."""
    kept: list[str] = []
    for raw in text.strip().split("\n"):
        line = EMPTY_BRACKETS.sub("", QUOTES.sub("", raw)).strip()
        if line and (TABLE_LINE.match(line) or not any(char.isalpha() for char in line)):
            continue
        if line or (kept and kept[-1]):
            kept.append(line)
    return kept[:-1] if kept and not kept[-1] else kept
