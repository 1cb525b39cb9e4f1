"""Nothing that comes out of a record acts as markup."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted import planted_failure, planted_record, planted_run

from qpabench.reports.markdown import Markdown, code, escape, table
from qpabench.reports.report import write_report
from qpabench.reports.results import to_csv

HOSTILE = "a|b `c` <script>x</script> *d* _e_ [f](http://g) $h$ & \x1b[31m\n# i \u202e ~j~ 日本"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("`a`", r"\`a\`"),
        ("<b>", "&lt;b&gt;"),
        ("&lt;", "&amp;lt;"),
        ("*a* _b_", r"\*a\* \_b\_"),
        ("[a](b)", r"\[a\](b)"),
        ("a\nb", r"a\\nb"),
        ("\x1b[0m", r"\\x1b\[0m"),
        ("https://a.b", "https&#58;//a.b"),
        ("@someone", "&#64;someone"),
        ("1. a", r"1\. a"),
        ("- a", r"\- a"),
        ("-0.5", "-0.5"),
        ("38.98", "38.98"),
    ],
)
def test_markup_is_shown_literally(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_markdown_is_not_escaped_twice() -> None:
    assert escape(Markdown("**a**")) == "**a**"


def test_code_cannot_leave_its_block() -> None:
    assert code("a ``` b").splitlines()[0] == "````"


def test_table_row_stays_one_row() -> None:
    assert len(table(["a"], [["x\ny|z"]]).splitlines()) == 3


def test_hostile_label_leaves_no_markup_in_the_report(tmp_path: Path) -> None:
    hostile = planted_record(HOSTILE), planted_failure(f"{HOSTILE} 2", reason=HOSTILE)
    write_report(planted_run(tmp_path, *hostile, title=HOSTILE, command=f"qpabench run {HOSTILE}"))
    report = (tmp_path / "report.md").read_text(encoding="utf-8").split("Made by:")[0]
    assert "<script" not in report
    assert "](http:" not in report
    assert "\x1b" not in report
    assert "\u202e" not in report


def test_hostile_label_can_be_drawn(tmp_path: Path) -> None:
    write_report(
        planted_run(tmp_path, planted_record(HOSTILE), planted_record("$x$ _y"), planted_record("_z"))
    )
    svg = (tmp_path / "figures" / "time.svg").read_text(encoding="utf-8")
    assert "<script" not in svg


def test_text_that_is_no_unicode_can_be_exported(tmp_path: Path) -> None:
    paths = write_report(planted_run(tmp_path, planted_failure("broken", reason="lone \ud800 surrogate")))
    assert all(path.exists() for path in paths)


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1+1", " =1+1", "\r\n=1"]
)
def test_csv_holds_no_formula(text: str) -> None:
    header, row = to_csv({f"={text}": [text], "label": ["fine"], "n": [-1.5]}).decode().splitlines()
    assert header.lstrip('"').startswith("'=")
    assert not row.lstrip('"').startswith(("=", "+", "-", "@"))
    assert row.endswith(",fine,-1.5")


def test_csv_shows_control_characters_and_keeps_one_line_a_record() -> None:
    content = to_csv({"label": ["\x1b[31mred\nnext\u202e"]}).decode()
    assert content == "label\n\\x1b[31mred\\nnext\\u202e\n"
