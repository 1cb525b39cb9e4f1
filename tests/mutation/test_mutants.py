"""The table of planted mistakes fits the code: a changed line is noticed here, not when the guard runs."""

from collections import Counter
from pathlib import Path

import pytest
from mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_text_to_replace_stands_exactly_once(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.found) == 1, f"{mutant.file}: {mutant.found!r}; change tests/mutation/mutants.py"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mistake_is_valid_python(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    compile(text.replace(mutant.found, mutant.replaced), mutant.file, "exec")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_tests_are_there(mutant: Mutant) -> None:
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert name.partition("[")[0] in (ROOT / file).read_text(encoding="utf-8"), test


def test_no_two_have_one_name() -> None:
    assert max(Counter(mutant.name for mutant in MUTANTS).values()) == 1
