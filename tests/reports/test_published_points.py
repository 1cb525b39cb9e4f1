"""The paper's printed values as points: where they stand, on whose figure, and how they are labelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted import planted_run
from test_published import like_published

from qpabench.reports.asked_figures import draw_asked
from qpabench.reports.groups import Context
from qpabench.reports.published_points import Points, points_of, split_far
from qpabench.reports.run import load_run

PADDED = ("n_trainable", "perplexity_padded")


def context_of(root: Path, **changes: Any) -> Context:
    (context,) = load_run(planted_run(root, like_published(**changes))).contexts
    return context


def test_a_printed_value_stands_at_its_counted_parameters(tmp_path: Path) -> None:
    points = points_of("fig2-gpt2", context_of(tmp_path), *PADDED)
    assert {one.kind: one.at for one in points} == {
        "lora · direct": ((204100.0, 1.595),),
        "lora · qpa": ((106264.0, 1.583),),
        "dora · direct": ((1683057.0, 5.003),),
        "dora · qpa": ((106264.0, 4.955),),
    }


def test_the_papers_own_conditions_are_labelled_published_alone(tmp_path: Path) -> None:
    (ours,) = [p for p in points_of("fig2-gpt2", context_of(tmp_path), *PADDED) if p.kind == "lora · qpa"]
    assert (ours.label, ours.comparable) == ("published, GPT-2", True)


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({"model": "smollm2-135m"}, "published, GPT-2 (other model)"),
        ({"options": {"dataset": {"train_rows": 9}}}, "published, GPT-2 (other conditions)"),
    ],
)
def test_other_conditions_are_in_the_label(changes: dict[str, Any], label: str, tmp_path: Path) -> None:
    points = points_of("fig2-gpt2", context_of(tmp_path, **changes), *PADDED)
    assert {(one.label, one.comparable) for one in points} == {(label, False)}


def test_a_figure_gets_no_points_of_another_figure_or_family(tmp_path: Path) -> None:
    assert points_of("fig8", context_of(tmp_path), *PADDED) == []
    assert points_of("fig2-gemma", context_of(tmp_path), *PADDED) == []


def test_counts_are_comparable_whatever_the_model(tmp_path: Path) -> None:
    context = context_of(tmp_path, model="smollm2-135m")
    points = points_of("any", context, "n_trainable", "n_qubits")
    (gpt2,) = [p for p in points if (p.kind, p.label) == ("lora · qpa", "published, GPT-2")]
    assert gpt2.comparable
    # Table 8, N by equation 8
    assert gpt2.at == ((47248, 10), (55656, 9), (72512, 8), (106264, 7), (173808, 6), (308936, 5))


def test_what_lies_far_off_the_axis_and_is_not_comparable_is_left_out() -> None:
    near, far, same = (
        Points("other", False, "lora · qpa", ((1.0, 30.0),)),
        Points("other", False, "lora · qpa", ((1.0, 1.5),)),
        Points("own", True, "lora · qpa", ((1.0, 1.5),)),
    )
    assert split_far([near, far, same], [40.0, 60.0]) == ([near, same], [far])


def test_the_caption_says_what_is_left_out(tmp_path: Path) -> None:
    context = context_of(tmp_path, model="smollm2-135m", padded=1e6)
    drawn = draw_asked(context, {"x": PADDED[0], "y": [PADDED[1]]}, "fig2-gpt2")
    assert drawn is not None
    assert drawn.caption.endswith(
        "Left out, far off the axis: published, GPT-2 (other model), padded perplexity (the paper's) 1.583."
    )


def test_published_points_are_in_the_legend(tmp_path: Path) -> None:
    drawn = draw_asked(context_of(tmp_path), {"x": PADDED[0], "y": [PADDED[1]]}, "fig2-gpt2")
    assert drawn is not None
    (legend,) = drawn.figure.legends
    assert "lora · qpa: published, GPT-2" in [text.get_text() for text in legend.get_texts()]
