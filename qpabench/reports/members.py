"""A run of several suites: a front page, one file for each figure or table, and the paper's own tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qpabench.reports import measured, published_tables, summary
from qpabench.reports.asked_figures import draw_asked
from qpabench.reports.differs import differs
from qpabench.reports.markdown import Markdown, code, escape, join, link, render, table
from qpabench.reports.numbers import count
from qpabench.reports.published import count_agrees, nearest_measured, published
from qpabench.reports.run import Run
from qpabench.reports.style import plain_style, svg_and_png
from qpabench.reports.tables import records_of

PUBLISHED = "published.md"
#: what a figure that a suite asks for is called, with a number and perhaps a context's
STEM = "asked"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


def members_of(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the included suites that a manifest names; what isn't one is left out."""
    found = manifest.get("members")
    return [
        one
        for one in (found if isinstance(found, list) else [])
        if isinstance(one, Mapping) and isinstance(one.get("cells"), list) and _named(one)
    ]


def draw_figures(run: Run, prefix: str, files: dict[str, bytes]) -> list[Markdown]:
    """Draw what ``[[figures]]`` asks for.

    Args:
        run: whose cells.
        prefix: of the files' names, for instance ``fig8-``.
        files: what was drawn is put here.

    Returns:
        Each figure ready to stand in the text.
    """
    asked = run.manifest.get("figures")
    shown = []
    with plain_style():
        for number, one in enumerate(asked if isinstance(asked, list) else [], start=1):
            for place, context in enumerate(run.contexts, start=1):
                drawn = (
                    draw_asked(context, one, run.manifest.get("suite")) if isinstance(one, Mapping) else None
                )
                if drawn is None:
                    continue
                stem = f"{prefix}{STEM}-{number}" + ("" if len(run.contexts) == 1 else f"-{place}")
                for kind, content in svg_and_png(drawn.figure).items():
                    files[f"figures/{stem}.{kind}"] = content
                alt = escape(f"{run.manifest.get('title')}: {context.title}")
                shown.append(Markdown(f"![{alt}](figures/{stem}.svg)\n\n*{escape(drawn.caption)}*"))
    return shown


def beside_published(run: Run) -> dict[str, object] | None:
    """Return the published numbers that belong to a run's suite."""
    values = published_tables.of_suite(run)
    if not values:
        return None
    drawn, notes = published_tables.beside(values, run.contexts)
    return {"table": drawn, "notes": notes, "where": ", ".join(dict.fromkeys(v.where for v in values))}


def front_page(run: Run, pages: Mapping[str, Run]) -> str:
    """Return the text of ``report.md`` for a run of several suites.

    Args:
        run: all cells.
        pages: by name, each included suite's own.
    """
    manifest = run.manifest
    return render(
        "front.md.j2",
        {
            "title": manifest.get("title") or manifest.get("suite"),
            "purpose": manifest.get("summary"),
            "overview": summary.overview(run),
            "shared": run.shared,
            "usual": run.usual,
            "verdict": "verdict.md" if manifest.get("verdict") else None,
            "found": _found(run),
            "pages": [_page(name, own) for name, own in pages.items()],
            "published": link("Published beside measured", PUBLISHED),
            "differs": differs(run),
            "not_ok": _not_ok(run),
            "problems": run.problems,
            "protocols": measured.protocols(run),
            "provenance": measured.provenance(run),
            "suite": manifest.get("suite"),
            "version": manifest.get("version"),
            "profile": manifest.get("profile"),
            "command": code(manifest["command"]) if manifest.get("command") else None,
        },
    )


def published_page(run: Run) -> str:
    """Return the text of ``published.md``: Tables 2, 3, 8, 9, the text's numbers, and appendix A.2."""
    values = {
        "sections": published_tables.sections(run),
        "pauli": published_tables.pauli_readout(run.contexts),
        "differs": differs(run),
        "command": code(run.manifest["command"]) if run.manifest.get("command") else None,
    }
    return render("published.md.j2", values)


def remove_stale_pages(root: Path, files: Mapping[str, bytes]) -> None:
    """Remove figures that an earlier report drew and this one doesn't."""
    for path in (root / "figures").glob(f"*{STEM}-[0-9]*"):
        if path.suffix in (".svg", ".png") and f"figures/{path.name}" not in files:
            path.unlink(missing_ok=True)


def _found(run: Run) -> list[Markdown]:
    """Say in a few lines what the whole run found."""
    said = []
    agree = [count_agrees(value) for value in published()]
    known = [one for one in agree if one]
    said.append(
        escape(
            f"Parameter counts: {agree.count('yes')} of the {len(known)} published ones come out exactly, "
            f"{agree.count('rounded')} after rounding, {agree.count('no')} not."
        )
    )
    found = [one for value in published() if (one := nearest_measured(value, run.contexts)) is not None]
    fit = sum(not one.apart for one in found)
    none = "" if fit else ", so none can be checked here"
    said.append(
        escape(
            f"Published results: {count(len(found))} of {count(len(published()))} have a measured cell; "
            f"{count(fit)} of them under the paper's conditions{none}."
        )
    )
    for context in run.contexts:
        title = Markdown(f"*{escape(context.title)}*: ")
        best, *others = summary.sentences(context)
        said.append(Markdown(title + best + " " + records_of(context.groups[0])))
        said += [Markdown(title + "⚠ " + line) for line in summary.warnings(context)[:1]]
        # one context has room for every kind of cell, several for the paper's own question
        shown = others if len(run.contexts) == 1 else [line for line in others if "lora by qpa" in line][:2]
        said += [Markdown(title + line) for line in shown]
    return said[:10]


def _not_ok(run: Run) -> Markdown | None:
    """Say how many cells have no numbers for which reason; each figure's page names them."""
    found: Counter[tuple[str, str]] = Counter(
        (record.status, record.reason) for record in run.records if record.status != "ok"
    )
    found.update(("no record", note) for _, note in run.absent)
    rows = [[count(number), *why] for why, number in sorted(found.items())]
    return table(["cells", "status", "reason"], rows, [True, False, False]) if rows else None


def _page(name: str, run: Run) -> Markdown:
    n_planned = len(run.records) + len(run.absent)
    text = f"{len(run.ok)} of {n_planned} cells measured"
    return join(": ", [link(run.manifest.get("title") or name, f"{name}.md"), text])


def _named(member: Mapping[str, Any]) -> bool:
    return isinstance(member.get("name"), str) and _NAME.fullmatch(member["name"]) is not None
