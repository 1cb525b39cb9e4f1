"""Fake plugin distributions on disk: what ``pip install`` would leave, for another process or this one."""

from __future__ import annotations

from pathlib import Path


def install(site: Path, name: str, source: str, version: str = "1.2.3") -> str:
    """Write a distribution with one module and its entry point.

    Args:
        site: a folder for PYTHONPATH.
        name: of the distribution; the module is ``name`` with underscores.
        source: of the module.
        version: of the distribution.

    Returns:
        The module's name.
    """
    module = name.replace("-", "_")
    site.mkdir(parents=True, exist_ok=True)
    (site / f"{module}.py").write_text(source, encoding="utf-8")
    folder = site / f"{module}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "entry_points.txt").write_text(f"[qpabench]\n{name}-plugin = {module}\n")
    return module
