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
from qpabench.suite.verdict import Asked, read_verdict

COMPONENTS = ("model", "dataset", "target", "generator", "backend", "ansatz")
TABLES = ("train", "evaluate")
KEYS = (*COMPONENTS, *TABLES, "protocol", "seeds", "select")
SUITE_KEYS = ("name", "title", "version", "summary")
TOP_KEYS = ("suite", "defaults", "matrix", "profiles", "limits", "verdict")
#: "validation": of cells that differ only in learning rates, the report marks the best on validation rows
SELECT = ("none", "validation")
PROTOCOLS = ("released-code", "paper-text")
LARGEST_FILE_BYTES = 4 * 2**20
DEEPEST = 40
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
        limits: ``timeout_seconds`` and ``memory_bytes`` per cell.
        profile: what was chosen.
        verdict: what shall be decided, if anything.
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


def read_document(path: Path, profile: str | None = None, settings: Sequence[str] = ()) -> Document:
    """Read a suite file.

    Args:
        path: the TOML file.
        profile: a name under ``[profiles]``.
        settings: ``KEY=VALUE`` texts, the value in TOML; they win over everything.

    Raises:
        InputError: one line with file, key, what was found and what was expected.
    """
    source = one_line(path, 120)
    content = _parse(path, source)
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
    matrix = _matrix(source, "matrix", content.get("matrix"))
    profiles = _table(source, "profiles", content.get("profiles", {}))
    overlay: Mapping[str, Any] = {}
    for other in profiles:
        checked = dict(_table(source, f"profiles.{other}", profiles[other]))
        replaced = checked.pop("matrix", None)
        checked = dict(_experiment(source, f"profiles.{other}", checked))
        if replaced is not None:
            replaced = _matrix(source, f"profiles.{other}.matrix", replaced)
        if other == profile:
            overlay, matrix = checked, replaced or matrix
    if profile is not None and profile not in profiles:
        raise InputError(
            f"{source}: profile {one_line(repr(profile), 60)} isn't there; {nearest(profile, profiles)}"
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
        limits=_limits(source, content.get("limits", {})),
        profile=profile,
        profiles=tuple(profiles),
        verdict=read_verdict(source, content.get("verdict")),
    )


def _parse(path: Path, source: str) -> dict[str, Any]:
    try:
        if path.is_file() and path.stat().st_size > LARGEST_FILE_BYTES:
            raise InputError(f"{source}: found more than {LARGEST_FILE_BYTES} bytes, expected a suite file")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{source}: no such file; expected a suite in TOML") from error
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(
            f"{source}: cannot read ({one_line(error)}); expected a suite in TOML (UTF-8)"
        ) from error
    try:
        content = tomllib.loads(text)
        _bounded(source, content)
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise InputError(f"{source}: not TOML: {one_line(error)}; expected key = value") from error
    except RecursionError as error:
        raise InputError(f"{source}: tables nested too deeply; expected at most {DEEPEST} levels") from error
    return content


def _bounded(source: str, value: object, depth: int = 0) -> None:
    if depth > DEEPEST:
        raise InputError(f"{source}: tables nested too deeply; expected at most {DEEPEST} levels")
    children: Sequence[object] = ()
    if isinstance(value, dict):
        children = list(value.values())
    elif isinstance(value, list):
        children = value
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise InputError(f"{source}: found a number beyond 64 bits, expected one within")
    for child in children:
        _bounded(source, child, depth + 1)


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
    _known(source, "limits", table, ("timeout_seconds", "memory_bytes"))
    for key, number in table.items():
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < 1e15:
            raise InputError(
                f"{source}: limits.{key}: found {one_line(repr(number), 60)}, expected a positive number"
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
        _bounded("--set", parsed)
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
