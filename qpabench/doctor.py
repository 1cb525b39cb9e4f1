"""What this machine has and lacks: plugins, packages, weights, data, hardware, and whether backends work."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from qpabench.cache import bytes_of, cache_dir
from qpabench.errors import PluginError, QpabenchError, one_line
from qpabench.hooks.entries import BackendEntry, BackendOptions, Options
from qpabench.hooks.manager import Registered, Registry, load_registry
from qpabench.hub import forbidden_hub, is_offline
from qpabench.records.provenance import PACKAGES, hardware, package_versions, source_line

SELF_TEST_SHOTS = 4096


def diagnose(*, self_test: bool = True) -> Iterator[tuple[str, bool]]:
    """Yield lines for a person, each with whether it is in order.

    Args:
        self_test: run one small circuit on every backend.
    """
    registry = load_registry()
    yield "Plugins", True
    for source in registry.sources:
        yield f"  {source}: {source.plugin}", True
    for broken in registry.broken:
        yield f"  BROKEN {broken.source}: {broken.source.plugin}: {broken.cause}", False
    for (kind, name), sources in registry.conflicts.items():
        yield f"  CONFLICT {kind} {name}: {' and '.join(map(str, sources))}; uninstall one", False
    yield "Packages", True
    for name, version in package_versions(PACKAGES).items():
        yield f"  {name} {version}", True
    yield "Machine", True
    yield from ((f"  {line}", True) for line in _machine())
    yield "Models and datasets", True
    for kind in ("model", "dataset"):
        yield from ((f"  {line}", True) for line in _components(registry, kind))
    if self_test:
        yield "Backends", True
        for registered in registry.of_kind("backend"):
            text, ok = _self_test(registered)
            yield f"  {registered.entry.name}: {text}", ok
    else:
        yield "Backends (not tested)", True
        yield from ((f"  {line}", True) for line in _components(registry, "backend"))


def _machine() -> Iterator[str]:
    import torch

    found = hardware()
    yield f"{found['cpu']}, {found['cores']} usable cores, {found['memory_bytes'] / 2**30:.1f} GiB memory"
    yield f"torch uses {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            name = torch.cuda.get_device_name(index)
            yield f"cuda:{index}: {name} (qpabench run SUITE --device cuda:{index})"
    else:
        yield "no CUDA device"
    yield f"qpabench: {source_line()}"
    folder = cache_dir()
    yield f"cache {folder}: {bytes_of(folder) / 2**20:.0f} MiB (QPABENCH_CACHE moves it; it can be deleted)"


def _components(registry: Registry, kind: str) -> Iterator[str]:
    for registered in registry.of_kind(kind):
        entry = registered.entry
        to_fetch = None
        try:
            lacking = _defaults(entry.options).missing()
            if not lacking and not is_offline():
                with forbidden_hub():
                    to_fetch = _defaults(entry.options).missing()
        except ValidationError:
            yield f"{kind} {entry.name}: needs options"
            continue
        except QpabenchError as error:
            lacking = str(error)
        found = "not on this machine, fetched from the hub when a cell needs it" if to_fetch else "ready"
        yield f"{kind} {entry.name}: {'missing: ' + one_line(lacking) if lacking else found}"


def _defaults(options: type[Options]) -> Options:
    return options()


def _self_test(registered: Registered) -> tuple[str, bool]:
    from qpabench.testing.selftest import self_test

    entry = registered.entry
    assert isinstance(entry, BackendEntry)
    shots = {} if entry.exact else {"shots": SELF_TEST_SHOTS}
    try:
        options = entry.options(**shots)
        assert isinstance(options, BackendOptions)
        lacking = options.missing()
        if lacking:
            return f"missing: {one_line(lacking)}", True
        found = self_test(entry, options)
    except (PluginError, ValidationError) as error:
        return f"BROKEN: {one_line(error)}", False
    return one_line(found.text), found.ok
