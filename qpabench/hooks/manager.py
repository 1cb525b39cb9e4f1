"""Discovers plugins, asks each on its own, and remembers who brought what and what is broken.

pluggy alone lets misspelt hooks pass, loses everyone's results when one plugin raises, hands back
generators unrun and keeps a rejected plugin registered; here each of these becomes one broken plugin
with its first cause, and everything else goes on.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from qpabench.errors import PluginError, nearest, one_line
from qpabench.hooks import hookspecs
from qpabench.hooks.entries import (
    AnsatzEntry,
    BackendEntry,
    DatasetEntry,
    Entry,
    ExecutorEntry,
    GeneratorEntry,
    ModelEntry,
    Options,
    ReporterEntry,
    TargetEntry,
)

GROUP = "qpabench"
STRICT_VARIABLE = "QPABENCH_STRICT_PLUGINS"
KINDS: Mapping[str, type[Entry]] = {
    "backends": BackendEntry,
    "ansatze": AnsatzEntry,
    "targets": TargetEntry,
    "datasets": DatasetEntry,
    "models": ModelEntry,
    "generators": GeneratorEntry,
    "executors": ExecutorEntry,
    "reporters": ReporterEntry,
}
PLURAL = {entry_type.kind: plural for plural, entry_type in KINDS.items()}
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Source:
    """Where a plugin came from."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Registered:
    """An entry and who brought it."""

    entry: Entry
    source: Source


@dataclass(frozen=True)
class Broken:
    """A plugin that can't be used, with the first cause."""

    source: Source
    cause: str


@dataclass
class Registry:
    """Every entry of every plugin that works; ask it for components by kind and name."""

    manager: pluggy.PluginManager
    entries: dict[str, dict[str, Registered]] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)
    conflicts: dict[tuple[str, str], list[Source]] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)

    def find(self, kind: str, name: str) -> Registered:
        """Return the entry of that kind and name.

        Args:
            kind: singular, for instance ``"backend"``.
            name: as in a suite.

        Raises:
            PluginError: unknown (the nearest name is offered, broken plugins are named), or claimed twice.
        """
        clash = self.conflicts.get((kind, name))
        if clash:
            raise PluginError(
                f"{kind} {name!r} is claimed by {' and '.join(map(str, clash))}; "
                "expected one; uninstall one of them"
            )
        known = self.entries.get(kind, {})
        if name in known:
            return known[name]
        hint = nearest(name, known)
        if self.broken:
            first = self.broken[0]
            hint += f" (plugin {first.source.plugin!r} of {first.source} is broken: {first.cause})"
        raise PluginError(f"unknown {kind} {one_line(name, 60)!r}; {hint}")

    def of_kind(self, kind: str) -> Iterator[Registered]:
        """Yield the entries of one kind by name."""
        for name in sorted(self.entries.get(kind, {})):
            yield self.entries[kind][name]

    def tell(self, event: str, **arguments: Any) -> list[str]:
        """Call an event hook in every plugin on its own; return one line for each that raised."""
        complaints = []
        for implementation in getattr(self.manager.hook, event).get_hookimpls():
            wanted = {name: arguments[name] for name in implementation.argnames}
            try:
                implementation.function(**wanted)
            except Exception as error:
                complaints.append(
                    f"plugin {implementation.plugin_name!r}: {event} raised {one_line(repr(error))}"
                )
        return complaints


def load_registry(extra: Mapping[str, object] | None = None) -> Registry:
    """Discover and ask every plugin.

    Args:
        extra: more plugins by name (modules or objects), for tests.

    Returns:
        The registry; broken plugins are rows in ``broken``.

    Raises:
        PluginError: a plugin is broken and ``QPABENCH_STRICT_PLUGINS=1``.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    registry = Registry(manager)
    for source, point in _entry_points():
        _add(registry, source, point)
    for name, plugin in (extra or {}).items():
        _add(registry, Source(name, "(given in code)", "-"), plugin)
    if registry.broken and os.environ.get(STRICT_VARIABLE) == "1":
        first = registry.broken[0]
        raise PluginError(f"plugin {first.source.plugin!r} of {first.source} is broken: {first.cause}")
    return registry


def _entry_points() -> list[tuple[Source, EntryPoint]]:
    found: dict[tuple[str, str], tuple[Source, EntryPoint]] = {}
    for distribution in distributions():
        for point in distribution.entry_points:
            if point.group == GROUP:
                name = _distribution_name(distribution)
                source = Source(
                    one_line(point.name, 100), one_line(name, 100), one_line(distribution.version, 40)
                )
                found.setdefault((name, point.name), (source, point))
    return sorted(found.values(), key=lambda pair: (pair[0].distribution != "qpabench", pair[0].distribution))


def _distribution_name(distribution: Distribution) -> str:
    return str(distribution.metadata["Name"])


def _add(registry: Registry, source: Source, plugin: object) -> None:
    name = f"{source.distribution}:{source.plugin}"
    manager = registry.manager
    try:
        with _surroundings_kept():
            if isinstance(plugin, EntryPoint):
                plugin = plugin.load()
            _refuse_unmarked(plugin)
            if manager.is_registered(plugin) or manager.has_plugin(name):
                raise PluginError("registered twice")
            manager.register(plugin, name)
            entries = _ask(manager, plugin)
    except (Exception, SystemExit) as error:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        cause = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
        registry.broken.append(Broken(source, one_line(cause)))
        return
    registry.sources.append(source)
    for entry in entries:
        _keep(registry, Registered(entry, source))


@contextmanager
def _surroundings_kept() -> Iterator[None]:
    """Undo what a plugin changes around it while it is loaded: every cell of a suite loads every plugin."""
    folder, variables, streams = Path.cwd(), dict(os.environ), (sys.stdout, sys.stderr)
    with warnings.catch_warnings():
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams
            os.chdir(folder)
            for name in os.environ.keys() - variables.keys():
                del os.environ[name]
            os.environ.update(variables)


def _keep(registry: Registry, new: Registered) -> None:
    entry = new.entry
    known = registry.entries.setdefault(entry.kind, {})
    key = (entry.kind, entry.name)
    if key in registry.conflicts:
        registry.conflicts[key].append(new.source)
    elif entry.name in known:
        registry.conflicts[key] = [known.pop(entry.name).source, new.source]
    else:
        known[entry.name] = new


def _refuse_unmarked(plugin: object) -> None:
    names = vars(plugin) if isinstance(plugin, ModuleType) else dir(plugin)
    for name in names:
        function = getattr(plugin, name, None)
        if name.startswith("qpabench_") and callable(function) and not hasattr(function, "qpabench_impl"):
            raise PluginError(f"function {name} isn't marked; expected @qpabench.hookimpl above it")


def _ask(manager: pluggy.PluginManager, plugin: object) -> list[Entry]:
    """Call every hook of one plugin on its own and check what it gives."""
    entries: list[Entry] = []
    known = [name for name in vars(hookspecs) if name.startswith("qpabench_")]
    for caller in manager.get_hookcallers(plugin) or []:
        if caller.spec is None:
            raise PluginError(f"hook {caller.name} doesn't exist; {nearest(caller.name, known)}")
        wanted = KINDS.get(caller.name.removeprefix("qpabench_"))
        if wanted is None:
            continue
        for implementation in caller.get_hookimpls():
            if implementation.plugin is plugin:
                entries.extend(_checked(caller.name, wanted, implementation.function()))
    return entries


def _checked(hook: str, wanted: type[Entry], given: object) -> Iterable[Entry]:
    if isinstance(given, (str, Entry)) or not isinstance(given, Iterable):
        raise PluginError(
            f"{hook} returned {type(given).__name__}, expected an iterable of {wanted.__name__}"
        )
    seen: set[str] = set()
    entries = list(given)
    for entry in entries:
        if not isinstance(entry, wanted):
            raise PluginError(f"{hook} gave {type(entry).__name__}, expected {wanted.__name__}")
        if not isinstance(entry.name, str) or not _NAME.fullmatch(entry.name) or len(entry.name) > 60:
            raise PluginError(
                f"{hook} gave the name {one_line(entry.name, 60)!r}, "
                "expected lower case letters, digits and hyphens"
            )
        if not isinstance(entry.summary, str) or not entry.summary.isprintable():
            raise PluginError(
                f"{hook}: summary of {entry.name!r} is {one_line(repr(entry.summary), 60)}, "
                "expected one line of text"
            )
        if entry.name in seen:
            raise PluginError(f"{hook} gave {entry.name!r} twice, expected each name once")
        if not (isinstance(entry.options, type) and issubclass(entry.options, Options)):
            raise PluginError(f"{hook}: options of {entry.name!r} aren't a subclass of qpabench.Options")
        seen.add(entry.name)
    return entries
