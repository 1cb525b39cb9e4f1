"""Labels beside points."""

from itertools import pairwise

import pytest
from matplotlib.figure import Figure

from qpabench.reports.style import place_labels


@pytest.mark.parametrize("bars", [False, True])
def test_a_label_covers_no_point_not_even_one_without_a_label(bars: bool) -> None:
    figure = Figure(figsize=(6, 4))
    axes = figure.add_subplot()
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 10)
    others = [(x, 5.0, "", "black") for x in (4.0, 4.5, 5.5, 6.0)]
    figure.draw_without_rendering()
    place_labels(axes, [(5.0, 5.0, "one of many", "black"), *others], bars=bars)
    (note,) = axes.texts
    box = note.get_window_extent()
    for x, y, *_ in others:
        assert not box.contains(*axes.transData.transform((x, y)))


def test_labels_cover_each_other_nowhere() -> None:
    figure = Figure(figsize=(6, 4))
    axes = figure.add_subplot()
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 10)
    figure.draw_without_rendering()
    place_labels(axes, [(5 + 0.1 * i, 5.0, f"point {i}", "black") for i in range(4)], bars=False)
    boxes = sorted((note.get_window_extent() for note in axes.texts), key=lambda box: box.y0)
    assert boxes
    assert not any(below.overlaps(above) for below, above in pairwise(boxes))
