"""Markdown in which nothing that came out of a record can act as markup."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from qpabench.errors import one_line

LONGEST_TEXT = 2000
_MARKUP = re.compile(r"([\\`*_{}\[\]#|~$!])")
_AUTOLINK = re.compile(r"(?i)(://|\bwww\.|@)")
_LIST_MARK = re.compile(r"^(?:([-+=])(?=[-+=\s]|$)|(\d+)([.)])(?=\s|$))")


class Markdown(str):
    """Text that is Markdown already; every other string is escaped when it is printed."""

    __slots__ = ()


def escape(text: object) -> Markdown:
    """Return text as Markdown that shows it literally, on one line.

    Args:
        text: anything with a ``str``; control characters are shown as escapes, Markdown stays as it is.
    """
    if isinstance(text, Markdown):
        return text
    return _escaped(str(text))


@lru_cache(maxsize=65_536)  # a label stands in many tables
def _escaped(text: str) -> Markdown:
    shown = one_line(text, LONGEST_TEXT)
    shown = _MARKUP.sub(r"\\\1", shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    # GitHub turns bare addresses into links, in tables too
    shown = _AUTOLINK.sub(lambda found: "".join(f"&#{ord(c)};" if c in ":.@" else c for c in found[0]), shown)
    shown = _LIST_MARK.sub(lambda found: f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}", shown)
    return Markdown(shown)


def join(separator: str, texts: Sequence[object]) -> Markdown:
    """Join texts, escaping those that aren't Markdown."""
    return Markdown(str(separator).join([str(escape(text)) for text in texts]))


def lead(bold: object, rest: object) -> Markdown:
    """Start a sentence in bold."""
    return Markdown(f"**{escape(bold)}** {escape(rest)}")


def link(text: object, target: str) -> Markdown:
    """Link to a file whose name holds only safe characters."""
    return Markdown(f"[{escape(text)}]({target})")


def code(text: object) -> Markdown:
    """Return a fenced block that its content can't leave."""
    shown = one_line(text, 4000)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", shown)), default=0))
    return Markdown(f"{fence}\n{shown}\n{fence}")


def table(header: Sequence[object], rows: Sequence[Sequence[object]], right: Sequence[bool] = ()) -> Markdown:
    """Return a Markdown table.

    Args:
        header: one text a column.
        rows: one text a cell; escaped unless Markdown.
        right: which columns are aligned to the right.
    """
    aligned = [*right, *[False] * (len(header) - len(right))]
    lines: list[list[str]] = [[escape(text) for text in header], ["---:" if r else "---" for r in aligned]]
    lines += [[escape(text) for text in row] for row in rows]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template shipped with the package; whatever isn't Markdown is escaped."""
    environment = Environment(
        loader=PackageLoader("qpabench.reports"),
        autoescape=False,  # HTML escaping isn't enough for Markdown: finalize does both
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return re.sub(r"\n{3,}", "\n\n", environment.get_template(template).render(**values)).strip() + "\n"
