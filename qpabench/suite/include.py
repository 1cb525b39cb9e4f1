"""``include = [...]``: which files a suite takes in, and the figures a suite asks for.

```toml
include = ["paper/fig2-gpt2.toml", "paper/fig3.toml"]   # beside or below the including file

[[figures]]
x = "n_trainable"                                       # a count, an option (target.rank) or a metric
y = ["perplexity_padded", "perplexity_masked"]          # one panel each
```
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from qpabench.errors import InputError, nearest, one_line
from qpabench.suite.tables import shown

#: an included file may include others, so often
DEEPEST_INCLUDE = 4
MOST_INCLUDED = 200
#: names that the front page's own files have
RESERVED = ("report", "verdict", "published")
FIGURE_KEYS = ("x", "y")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}")


def included_paths(source: str, path: Path, value: object, chain: Sequence[Path]) -> list[Path]:
    """Return the files that a suite includes.

    Args:
        source: the suite file, for messages.
        path: the suite file.
        value: its ``include``; None when it has none.
        chain: resolved paths of the files that led here, this one included.

    Raises:
        InputError: not a list of paths, a path that leaves the file's folder, a cycle, or too deep.
    """
    if value is None:
        return []
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise InputError(f"{source}: include: found {shown(value)}, expected a list of paths of suite files")
    if len(value) > MOST_INCLUDED:
        raise InputError(f"{source}: include: found {len(value)} files, expected at most {MOST_INCLUDED}")
    if len(chain) > DEEPEST_INCLUDE:
        raise InputError(
            f"{source}: include: files include one another more than {DEEPEST_INCLUDE} levels deep; "
            "expected fewer"
        )
    folder = path.parent.resolve()
    found: list[Path] = []
    for index, item in enumerate(value):
        where = f"{source}: include[{index}]"
        pure = PurePosixPath(item)
        inside = "\0" not in item and not pure.is_absolute() and ".." not in pure.parts and "\\" not in item
        if not inside or not (resolved := _resolved(where, folder / item)).is_relative_to(folder):
            raise InputError(
                f"{where}: found {shown(item)}, expected a path beside or below the including file"
            )
        if resolved in chain:
            raise InputError(f"{where}: {shown(item)} leads back to itself; expected no cycle")
        if resolved in found:
            raise InputError(f"{where}: {shown(item)} is named twice; expected once")
        found.append(resolved)
    return [path.parent / item for item in value]


def read_figures(source: str, value: object) -> tuple[Mapping[str, Any], ...]:
    """Read ``[[figures]]``.

    Args:
        source: the suite file, for messages.
        value: the list of tables; None when there is none.

    Raises:
        InputError: a key or a type is wrong.
    """
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(table, Mapping) for table in value):
        raise InputError(f"{source}: figures: found {shown(value)}, expected tables [[figures]]")
    return tuple(_figure(source, f"figures[{index}]", table) for index, table in enumerate(value))


def _figure(source: str, key: str, table: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in table:
        if name not in FIGURE_KEYS:
            raise InputError(
                f"{source}: {key}.{one_line(name, 60)}: unknown key; {nearest(name, FIGURE_KEYS)}"
            )
    y = table.get("y")
    found = {"x": table.get("x"), "y": [y] if isinstance(y, str) else y}
    if not isinstance(found["x"], str) or not _FIELD.fullmatch(found["x"]):
        raise InputError(
            f"{source}: {key}.x: found {shown(found['x'])}, expected a field, for instance n_trainable"
        )
    names = found["y"]
    if (
        not isinstance(names, list)
        or not 1 <= len(names) <= 3
        or not all(isinstance(name, str) and _FIELD.fullmatch(name) for name in names)
    ):
        raise InputError(
            f"{source}: {key}.y: found {shown(y)}, expected one to three metrics, "
            "for instance perplexity_padded"
        )
    return found


def _resolved(where: str, path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{where}: cannot read ({one_line(error)}); expected a path") from error
