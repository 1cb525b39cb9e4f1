"""A suite file as a person writes it: read, checked for form, merged with a profile and ``--set``.

Components (``model``, ``target``, ...) are a name or a table with ``name`` and options; a list is an axis.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qpabench.errors import InputError, nearest, one_line
from qpabench.suite.files import bounded, parse_file
from qpabench.suite.include import RESERVED, included_paths, read_figures
from qpabench.suite.variance import Variance, read_variance
from qpabench.suite.verdict import Asked, read_verdict

COMPONENTS = ("model", "dataset", "target", "generator", "backend", "ansatz")
TABLES = ("train", "evaluate")
KEYS = (*COMPONENTS, *TABLES, "protocol", "seeds", "select")
SUITE_KEYS = ("name", "title", "version", "summary")
TOP_KEYS = ("suite", "include", "defaults", "matrix", "profiles", "limits", "figures", "verdict", "variance")
#: "validation": of cells that differ only in learning rates, the report marks the best on validation rows
SELECT = ("none", "validation")
PROTOCOLS = ("released-code", "paper-text")
_DEVICE = re.compile(r"cpu|cuda(:(0|[1-9][0-9]?))?")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True)
class Document:
    """A suite before its axes are crossed.

    Args:
        source: where it came from, for messages.
        name: also the default output folder.
        title: heading of the report.
        version: the suite's own version.
        summary: one paragraph on what it is for.
        tables: one mapping a ``[[matrix]]``, defaults, profile and ``--set`` merged in.
        limits: ``timeout_seconds``, ``memory_bytes`` and ``checkpoint_minutes`` per cell.
        profile: what was chosen.
        verdict: what shall be decided, if anything.
        figures: what shall be drawn, each ``x`` and ``y``.
        members: the included suites, those they include among them.
        variance: what shall be known of gradients at random initial angles; nothing is trained then.
    """

    source: str
    name: str
    title: str
    version: int
    summary: str
    tables: tuple[Mapping[str, Any], ...]
    limits: Mapping[str, float]
    profile: str | None
    profiles: tuple[str, ...]
    verdict: Asked | None = None
    figures: tuple[Mapping[str, Any], ...] = ()
    members: tuple[Document, ...] = ()
    variance: Variance | None = None

    @property
    def parts(self) -> tuple[Document, ...]:
        """This suite and the included ones: everything that has tables of its own."""
        return (self, *self.members)


def device_setting(device: str) -> str:
    """Return the setting that puts every cell's model on a device, as ``--set`` would.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: it is something else.
    """
    if not _DEVICE.fullmatch(device):
        raise InputError(f"--device: found {one_line(repr(device), 60)}, expected cpu, cuda or cuda:N")
    return f'model.device="{device}"'


def read_document(path: Path, profile: str | None = None, settings: Sequence[str] = ()) -> Document:
    """Read a suite file.

    Args:
        path: the TOML file.
        profile: a name under ``[profiles]``.
        settings: ``KEY=VALUE`` texts, the value in TOML; they win over everything.

    Raises:
        InputError: one line with file, key, what was found and what was expected.
    """
    return _read(path, profile, settings, None, ())


def _read(
    path: Path,
    profile: str | None,
    settings: Sequence[str],
    fallback: Mapping[str, Any] | None,
    chain: tuple[Path, ...],
) -> Document:
    """Read a file; ``fallback`` is the including file's profile, for files that have none of that name."""
    source = one_line(path, 120)
    content = parse_file(path, source)
    _known(source, "", content, TOP_KEYS)
    head = _table(source, "suite", content.get("suite"), required=True)
    _known(source, "suite", head, SUITE_KEYS)
    name = head.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"{source}: suite.name: found {one_line(repr(name), 60)}, "
            "expected letters, digits, - and _ (at most 100)"
        )
    version = head.get("version", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise InputError(
            f"{source}: suite.version: found {one_line(repr(version), 60)}, expected a number from 1"
        )
    for key in ("title", "summary"):
        if not isinstance(head.get(key, ""), str):
            raise InputError(f"{source}: suite.{key}: found {type(head[key]).__name__}, expected text")
    defaults = _experiment(source, "defaults", content.get("defaults", {}))
    chain = (*chain, path.resolve())
    includes = included_paths(source, path, content.get("include"), chain)
    given = content.get("matrix")
    variance = read_variance(source, content.get("variance"))
    optional = includes or (variance is not None and variance.grids)
    matrix = [] if optional and given is None else _matrix(source, "matrix", given)
    profiles = _table(source, "profiles", content.get("profiles", {}))
    overlay: Mapping[str, Any] = fallback or {}
    for other in profiles:
        checked = dict(_table(source, f"profiles.{other}", profiles[other]))
        replaced = checked.pop("matrix", None)
        gradients_here = read_variance(source, checked.pop("variance", None))
        checked = dict(_experiment(source, f"profiles.{other}", checked))
        if replaced is not None:
            replaced = _matrix(source, f"profiles.{other}.matrix", replaced)
        if other == profile:
            overlay, matrix = checked, replaced or matrix
            variance = gradients_here or variance
    if profile is not None and profile not in profiles and fallback is None:
        raise InputError(
            f"{source}: profile {one_line(repr(profile), 60)} isn't there; {nearest(profile, profiles)}"
        )
    members: list[Document] = []
    for other_path in includes:
        member = _read(other_path, profile, settings, overlay, chain)
        members += [one for one in member.parts if one.tables]
    _as_members(source, name, members)
    if variance is not None and (includes or any(content.get(key) for key in ("verdict", "figures"))):
        raise InputError(
            f"{source}: variance: found beside include, verdict or figures, expected a suite of its own"
        )
    changes = [_setting(text) for text in settings]
    tables = tuple(_merge(source, defaults, table, overlay, changes) for table in matrix)
    return Document(
        source=source,
        name=name,
        title=str(head.get("title", name)),
        version=version,
        summary=str(head.get("summary", "")),
        tables=tables,
        limits=_widest([*(one.limits for one in members)], _limits(source, content.get("limits", {}))),
        profile=profile,
        profiles=tuple(profiles),
        verdict=read_verdict(source, content.get("verdict")),
        figures=read_figures(source, content.get("figures")),
        members=tuple(members),
        variance=variance,
    )


def _as_members(source: str, name: str, members: Sequence[Document]) -> None:
    """Refuse what can't stand in one report: names that clash, questions asked by an included file."""
    names = [one.name for one in members]
    if members and name in RESERVED:
        raise InputError(
            f"{source}: suite.name: {name!r} is taken by a page of the report; expected another one"
        )
    for one in members:
        if names.count(one.name) > 1 or one.name in (name, *RESERVED):
            raise InputError(
                f"{source}: include: {one.source} has suite.name {one.name!r}, which is taken; "
                "expected a name of its own for each file, included once"
            )
        if one.variance is not None:
            raise InputError(
                f"{source}: include: {one.source} has [variance], which an included file can't have; "
                "run it by itself"
            )
        if one.verdict is not None:
            raise InputError(
                f"{source}: include: {one.source} has a [verdict], which an included file can't have; "
                "move it to the including file"
            )


def _widest(members: Sequence[Mapping[str, float]], own: Mapping[str, float]) -> Mapping[str, float]:
    """Return the limits of a cell: the including file's, else the largest of the included files."""
    keys = {key for limits in members for key in limits}
    widest = {key: max(limits[key] for limits in members if key in limits) for key in sorted(keys)}
    return {**widest, **own}


def _table(source: str, key: str, value: object, *, required: bool = False) -> Mapping[str, Any]:
    if value is None and required:
        raise InputError(f"{source}: {key}: missing; expected a table [{key}]")
    if not isinstance(value, Mapping):
        raise InputError(f"{source}: {one_line(key, 80)}: found {type(value).__name__}, expected a table")
    return value


def _known(source: str, key: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in table:
        if name not in known:
            where = f"{key}.{name}" if key else name
            raise InputError(f"{source}: {one_line(where, 100)}: unknown key; {nearest(name, known)}")


def _matrix(source: str, key: str, value: object) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not value:
        raise InputError(
            f"{source}: {key}: found {'nothing' if not value else type(value).__name__}, "
            f"expected at least one table [[{key}]]"
        )
    return [_experiment(source, f"{key}[{index}]", table) for index, table in enumerate(value)]


def _experiment(source: str, key: str, value: object) -> Mapping[str, Any]:
    table = _table(source, key, value)
    _known(source, key, table, KEYS)
    _select(f"{source}: {key}.select", table.get("select", SELECT[0]))
    return table


def _select(where: str, found: object) -> None:
    if found not in SELECT:
        raise InputError(f"{where}: found {one_line(repr(found), 60)}, expected one of {', '.join(SELECT)}")


def _limits(source: str, value: object) -> Mapping[str, float]:
    table = _table(source, "limits", value)
    _known(source, "limits", table, ("timeout_seconds", "memory_bytes", "checkpoint_minutes"))
    for key, number in table.items():
        never = key == "checkpoint_minutes"
        least, expected = (0, "0 (never) or more") if never else (1e-9, "a positive number")
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not least <= number < 1e15:
            raise InputError(
                f"{source}: limits.{key}: found {one_line(repr(number), 60)}, expected {expected}"
            )
    return table


def _setting(text: str) -> tuple[list[str], Any]:
    key, equals, value = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(re.fullmatch(r"[A-Za-z0-9_-]+", part) for part in path):
        raise InputError(f"--set {one_line(text, 80)!r}: expected KEY=VALUE, for instance train.epochs=1")
    if path[0] not in KEYS:
        raise InputError(f"--set {one_line(text, 80)!r}: unknown key {path[0]!r}; {nearest(path[0], KEYS)}")
    try:
        parsed = tomllib.loads(f"value = {value.strip()}")
        bounded("--set", parsed)
        if list(parsed) != ["value"]:
            raise ValueError
        return path, parsed["value"]
    except (ValueError, RecursionError):
        return path, value.strip()


def _merge(
    source: str,
    defaults: Mapping[str, Any],
    table: Mapping[str, Any],
    overlay: Mapping[str, Any],
    changes: Sequence[tuple[list[str], Any]],
) -> Mapping[str, Any]:
    """Merge whole keys, ``train`` and ``evaluate`` key by key: defaults, table, profile, then ``--set``."""
    merged: dict[str, Any] = {}
    for layer in (defaults, table, overlay):
        for key, value in layer.items():
            if key in TABLES:
                merged[key] = {**merged.get(key, {}), **_table(source, key, value)}
            else:
                merged[key] = copy.deepcopy(value)
    for path, value in changes:
        _change(merged, path, value)
    _select("--set select", merged.get("select", SELECT[0]))
    return merged


def _change(merged: dict[str, Any], path: list[str], value: Any) -> None:
    key = path[0]
    if len(path) == 1:
        merged[key] = dict(_table("--set", key, value)) if key in TABLES else value
        return
    current = merged.get(key, {})
    changed: list[dict[str, Any]] = []
    for choice in current if isinstance(current, list) else [current]:
        table = dict(_table("--set", key, {"name": choice} if isinstance(choice, str) else choice))
        inner = table
        for depth, part in enumerate(path[1:-1], start=2):
            inner[part] = dict(_table("--set", ".".join(path[:depth]), inner.get(part, {})))
            inner = inner[part]
        inner[path[-1]] = value
        changed.append(table)
    merged[key] = changed if isinstance(current, list) else changed[0]
