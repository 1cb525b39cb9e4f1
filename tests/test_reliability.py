"""The promises of ``docs/reliability.md``: each names a test that exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def promises() -> list[str]:
    """Return the rows of the table, without its head."""
    lines = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("| ")][1:]


def test_every_promise_names_its_proof() -> None:
    assert promises()
    assert [row for row in promises() if not NAMED.search(row)] == []


def test_every_proof_exists() -> None:
    found = {
        (file, node.name)
        for row in promises()
        for file, _ in NAMED.findall(row)
        for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    wanted = {proof for row in promises() for proof in NAMED.findall(row)}
    assert sorted(wanted - found) == []
