"""A suite takes in others: their cells are run once, and it is known which belong to which."""

from __future__ import annotations

from pathlib import Path

import pytest
from written_suites import DEFAULTS, DIRECT, QPA, write_texts

from qpabench.errors import InputError
from qpabench.hooks.manager import load_registry
from qpabench.suite.document import read_document
from qpabench.suite.plan import Plan, make_plan


def write(folder: Path, name: str, body: str, defaults: str = DEFAULTS) -> Path:
    path = folder / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = defaults.format(folder=folder.as_posix()).replace('name = "example"', f'name = "{path.stem}"')
    path.write_text(text + body, encoding="utf-8")
    return path


def including(folder: Path, include: str, rest: str = "") -> Path:
    path = folder / "whole.toml"
    path.write_text(f'include = {include}\n[suite]\nname = "whole"\n{rest}', encoding="utf-8")
    return path


def planned(path: Path, **options: str) -> Plan:
    return make_plan(path, load_registry(), **options)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_texts(tmp_path)
    write(tmp_path, "one", DIRECT + QPA)
    write(tmp_path, "two", DIRECT)
    return tmp_path


def test_a_cell_that_two_files_share_is_planned_once(folder: Path) -> None:
    assert len(planned(including(folder, '["one.toml", "two.toml"]')).cells) == 2


def test_each_included_suite_keeps_its_cells(folder: Path) -> None:
    plan = planned(including(folder, '["one.toml", "two.toml"]'))
    one, two = plan.members
    assert (one["name"], len(one["cells"]), two["name"], len(two["cells"])) == ("one", 2, "two", 1)
    assert set(two["cells"]) < set(one["cells"])


def test_cells_of_the_including_file_have_a_part_of_their_own(folder: Path) -> None:
    text = (folder / "two.toml").read_text().replace('"two"', '"all"')
    (folder / "all.toml").write_text('include = ["one.toml"]\n' + text)
    plan = planned(folder / "all.toml")
    assert [(member["name"], len(member["cells"])) for member in plan.members] == [("all", 1), ("one", 2)]


def test_a_selection_leaves_out_members_without_cells(folder: Path) -> None:
    plan = planned(including(folder, '["one.toml", "two.toml"]'), only="generator=qpa")
    assert [member["name"] for member in plan.members] == ["one"]


def test_the_same_cell_alone_and_included(folder: Path) -> None:
    alone = planned(folder / "two.toml").cells[0].cell.id
    assert planned(including(folder, '["two.toml"]')).cells[0].cell.id == alone


def test_an_included_file_has_its_own_profile_or_the_including_files(folder: Path) -> None:
    write(folder, "own", DIRECT + "[profiles.quick]\nseeds = [7]\n")
    path = including(folder, '["own.toml", "two.toml"]', "[profiles.quick]\nseeds = [9]\n")
    assert [p.cell.seed for p in planned(path, profile="quick").cells] == [7, 9]


def test_files_in_folders_below_may_include_in_turn(folder: Path) -> None:
    write(folder, "below/three", QPA)
    (folder / "below/middle.toml").write_text('include = ["three.toml"]\n[suite]\nname = "middle"\n')
    text = (folder / "below/three.toml").read_text().replace(f"{folder.as_posix()}/below", folder.as_posix())
    (folder / "below/three.toml").write_text(text)
    plan = planned(including(folder, '["below/middle.toml"]'))
    assert [member["name"] for member in plan.members] == ["three"]


def test_more_cells_than_allowed_are_counted_over_all_files(folder: Path) -> None:
    with pytest.raises(InputError, match="cross to 3 cells, expected at most 2"):
        make_plan(including(folder, '["one.toml", "two.toml"]'), load_registry(), max_cells=2)


@pytest.mark.parametrize(
    ("include", "message"),
    [
        ('"one.toml"', "expected a list of paths"),
        ("[]", "expected a list of paths"),
        ("[3]", "expected a list of paths"),
        ('["../one.toml"]', "expected a path beside or below"),
        ('["/etc/passwd"]', "expected a path beside or below"),
        ('["sub/../../one.toml"]', "expected a path beside or below"),
        ('["nothing.toml"]', "no such file"),
        ('["whole.toml"]', "expected no cycle"),
        ('["one.toml", "one.toml"]', "named twice"),
        ('["\\u0000"]', "expected a path"),
    ],
)
def test_a_wrong_include_is_one_line(include: str, message: str, folder: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_document(including(folder, include))
    assert "\n" not in str(caught.value)


def test_a_cycle_over_two_files_is_found(folder: Path) -> None:
    (folder / "back.toml").write_text('include = ["whole.toml"]\n[suite]\nname = "back"\n')
    with pytest.raises(InputError, match="leads back to itself"):
        read_document(including(folder, '["back.toml"]'))


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = write(tmp_path_factory.mktemp("outside"), "far", DIRECT)
    (folder / "far.toml").symlink_to(outside)
    with pytest.raises(InputError, match="beside or below"):
        read_document(including(folder, '["far.toml"]'))


def test_a_long_chain_is_refused(folder: Path) -> None:
    for n in range(6):
        (folder / f"c{n}.toml").write_text(f'include = ["c{n + 1}.toml"]\n[suite]\nname = "c{n}"\n')
    with pytest.raises(InputError, match="levels deep"):
        read_document(including(folder, '["c0.toml"]'))


@pytest.mark.parametrize("name", ["whole", "report", "one"])
def test_names_that_clash_are_refused(name: str, folder: Path) -> None:
    text = (folder / "two.toml").read_text().replace('"two"', f'"{name}"')
    (folder / "two.toml").write_text(text)
    with pytest.raises(InputError, match="is taken"):
        read_document(including(folder, '["one.toml", "two.toml"]'))


def test_a_profile_nobody_has_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="profile 'quick' isn't there"):
        read_document(including(folder, '["two.toml"]'), "quick")


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ('figures = "x"', "expected tables"),
        ('[[figures]]\nx = "n_trainable"', "expected one to three metrics"),
        ('[[figures]]\ny = "perplexity_padded"', "expected a field"),
        ('[[figures]]\nx = "a b"\ny = "c"', "expected a field"),
        ('[[figures]]\nz = "a"', "unknown key"),
    ],
)
def test_a_wrong_figure_is_one_line(figures: str, message: str, folder: Path) -> None:
    top, table = (figures + "\n", "") if figures.startswith("figures") else ("", figures)
    path = folder / "drawn.toml"
    path.write_text(top + (folder / "two.toml").read_text() + table)
    with pytest.raises(InputError, match=message):
        read_document(path)
