"""``verdict.md`` and its figures, where a suite asks for a verdict."""

from __future__ import annotations

from qpabench.reports.choices import design_choices
from qpabench.reports.figures import Drawn
from qpabench.reports.markdown import Markdown, escape
from qpabench.reports.run import Run
from qpabench.reports.style import plain_style, svg_and_png
from qpabench.reports.verdict import decide, tuned_groups
from qpabench.reports.verdict_figures import forest, pareto
from qpabench.reports.verdict_text import verdict_markdown

NAME = "verdict.md"
FIGURES = ("forest", "pareto")


def verdict_files(run: Run) -> dict[str, bytes]:
    """Return the verdict's files by name; none where the suite asks no question.

    Raises:
        InputError: two methods differ in model, data or protocol.
    """
    verdict = decide(run)
    if verdict is None:
        return {}
    chosen = {id(group) for group, _ in tuned_groups(run)}
    by_context = [(c.title, [g for g in c.groups if id(g) in chosen]) for c in run.contexts]
    choices = [(title, design_choices(groups, verdict.margin_nats)) for title, groups in by_context]
    files: dict[str, bytes] = {}
    embedded: dict[str, Markdown] = {}
    with plain_style():
        _keep("forest", "forest", forest(verdict), files, embedded)
        for number, (title, groups) in enumerate(by_context, start=1):
            stem = "pareto" if len(by_context) == 1 else f"pareto-{number}"
            _keep("pareto", stem, pareto(title, groups), files, embedded)
    files[NAME] = verdict_markdown(run, verdict, choices, embedded).encode()
    return files


def _keep(
    kind: str, stem: str, drawn: Drawn | None, files: dict[str, bytes], embedded: dict[str, Markdown]
) -> None:
    if drawn is None:
        return
    for suffix, content in svg_and_png(drawn.figure).items():
        files[f"figures/{stem}.{suffix}"] = content
    shown = f"![{escape(kind)}](figures/{stem}.svg)\n\n*{escape(drawn.caption)}*"
    before = embedded.get(kind)
    embedded[kind] = Markdown(f"{before}\n\n{shown}" if before else shown)
