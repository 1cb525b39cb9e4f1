"""Whatever a plugin does, it is named with its distribution and its first cause, and all else works."""

import sys
from pathlib import Path

import pytest
from fake_plugins import install

from qpabench.errors import PluginError
from qpabench.hooks.manager import Registry, load_registry

ENTRY = 'BackendEntry(name="{name}", summary="s", load="nowhere:Nothing")'
HEAD = "import qpabench\nfrom qpabench import BackendEntry, TargetEntry\n"
HOOK = HEAD + "@qpabench.hookimpl\n"

#: what a broken plugin does -> (its module, what the cause says)
BROKEN = {
    "raises on import": ("1 / 0\n", "ZeroDivisionError: division by zero"),
    "misses an import": (
        "import not_there_at_all\n",
        "ModuleNotFoundError: No module named 'not_there_at_all'",
    ),
    "is not Python": ("def (:\n", "SyntaxError"),
    "exits on import": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "misspells a hook": (
        HOOK + "def qpabench_backend():\n    return []\n",
        "hook qpabench_backend doesn't exist; did you mean 'qpabench_backends'?",
    ),
    "forgets the mark": (
        HEAD + "def qpabench_backends():\n    return []\n",
        "function qpabench_backends isn't marked; expected @qpabench.hookimpl above it",
    ),
    "takes another argument": (
        HOOK + "def qpabench_backends(config):\n    return []\n",
        "config",
    ),
    "misspells an event's argument": (
        HOOK + "def qpabench_cell_started(cells):\n    pass\n",
        "cells",
    ),
    "returns None": (
        HOOK + "def qpabench_backends():\n    pass\n",
        "qpabench_backends returned NoneType, expected an iterable of BackendEntry",
    ),
    "returns an entry alone": (
        HOOK + f"def qpabench_backends():\n    return {ENTRY.format(name='lone')}\n",
        "qpabench_backends returned BackendEntry, expected an iterable of BackendEntry",
    ),
    "returns text": (
        HOOK + "def qpabench_backends():\n    return 'native'\n",
        "qpabench_backends returned str, expected an iterable of BackendEntry",
    ),
    "gives another kind of entry": (
        HOOK + "def qpabench_backends():\n    yield TargetEntry(name='t', summary='s', load='a:b')\n",
        "qpabench_backends gave TargetEntry, expected BackendEntry",
    ),
    "raises while yielding": (
        HOOK
        + f"def qpabench_backends():\n    yield {ENTRY.format(name='early')}\n    raise KeyError('late')\n",
        "KeyError: 'late'",
    ),
    "exits while yielding": (
        HOOK + f"def qpabench_backends():\n    yield {ENTRY.format(name='early')}\n    raise SystemExit\n",
        "SystemExit",
    ),
    "gives a bad name": (
        HOOK + f"def qpabench_backends():\n    yield {ENTRY.format(name='../Mine')}\n",
        "qpabench_backends gave the name '../Mine', expected lower case letters, digits and hyphens",
    ),
    "gives a summary that colours the terminal": (
        HOOK + "def qpabench_backends():\n"
        "    yield BackendEntry(name='a', summary='\\x1b[31mred', load='a:b')\n",
        r"summary of 'a' is '\x1b[31mred', expected one line of text",
    ),
    "raises an escape": (
        "raise RuntimeError('\\x1b[2J\\u202e')\n",
        r"RuntimeError: \x1b[2J\u202e",
    ),
    "gives one name twice": (
        HOOK + f"def qpabench_backends():\n    yield from [{ENTRY.format(name='a')}] * 2\n",
        "qpabench_backends gave 'a' twice, expected each name once",
    ),
    "gives options of another type": (
        HOOK + "def qpabench_backends():\n"
        "    yield BackendEntry(name='a', summary='s', load='a:b', options=dict)\n",
        "options of 'a' aren't a subclass of qpabench.Options",
    ),
}
EACH = pytest.mark.parametrize("case", BROKEN, ids=[case.replace(" ", "-") for case in BROKEN])


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("QPABENCH_STRICT_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path / "site"
    for name in set(sys.modules) - before:
        if name.startswith(("acme", "other_")):
            del sys.modules[name]


def working(registry: Registry) -> set[str]:
    return {f"{kind}:{name}" for kind, entries in registry.entries.items() for name in entries}


@EACH
def test_the_cause_names_plugin_and_distribution(case: str, site: Path) -> None:
    source, cause = BROKEN[case]
    install(site, "acme", source)
    (broken,) = [found for found in load_registry().broken if found.source.distribution == "acme"]
    assert (broken.source.plugin, str(broken.source)) == ("acme-plugin", "acme 1.2.3")
    assert cause in broken.cause
    assert "\n" not in broken.cause


@EACH
def test_everything_else_still_works(case: str, site: Path) -> None:
    before = working(load_registry())
    install(site, "acme", BROKEN[case][0])
    install(site, "other-one", HOOK + f"def qpabench_backends():\n    yield {ENTRY.format(name='fine')}\n")
    assert working(load_registry()) == before | {"backend:fine"}


@EACH
def test_strict_plugins_make_it_fatal(case: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "acme", BROKEN[case][0])
    monkeypatch.setenv("QPABENCH_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match=r"plugin 'acme-plugin' of acme 1\.2\.3 is broken: "):
        load_registry()


def test_a_rejected_plugin_hears_no_events(site: Path) -> None:
    module = install(
        site,
        "acme",
        HOOK + "def qpabench_cell_started(cell):\n    raise RuntimeError\n" + "@qpabench.hookimpl\n"
        "def qpabench_backends():\n    return 3\n",
    )
    registry = load_registry()
    assert module in sys.modules
    assert registry.tell("qpabench_cell_started", cell={}) == []


def test_one_name_in_two_distributions_is_an_error_that_names_both(site: Path) -> None:
    for name in ("acme", "other-one"):
        install(site, name, HOOK + f"def qpabench_backends():\n    yield {ENTRY.format(name='twin')}\n")
    with pytest.raises(PluginError, match=r"'twin' is claimed by acme 1\.2\.3 and other-one 1\.2\.3"):
        load_registry().find("backend", "twin")


def test_a_third_claim_is_named_too(site: Path) -> None:
    for name in ("acme", "other-one", "other-two"):
        install(site, name, HOOK + f"def qpabench_backends():\n    yield {ENTRY.format(name='twin')}\n")
    with pytest.raises(PluginError, match=r"acme .* and other-one .* and other-two"):
        load_registry().find("backend", "twin")


def test_a_built_in_name_is_not_taken_over(site: Path) -> None:
    install(site, "acme", HOOK + f"def qpabench_backends():\n    yield {ENTRY.format(name='native')}\n")
    with pytest.raises(PluginError, match=r"'native' is claimed by qpabench .* and acme 1\.2\.3"):
        load_registry().find("backend", "native")


def test_one_name_in_two_kinds_is_fine(site: Path) -> None:
    install(site, "acme", HOOK + f"def qpabench_backends():\n    yield {ENTRY.format(name='qpa')}\n")
    registry = load_registry()
    assert registry.find("backend", "qpa").source.distribution == "acme"
    assert registry.find("generator", "qpa").source.distribution == "qpabench"


def test_an_unknown_name_is_told_of_broken_plugins(site: Path) -> None:
    install(site, "acme", "1 / 0\n")
    with pytest.raises(
        PluginError, match=r"unknown backend 'mine'; .*'acme-plugin' of acme 1\.2\.3 is broken"
    ):
        load_registry().find("backend", "mine")


def test_an_unknown_name_is_offered_the_nearest() -> None:
    with pytest.raises(PluginError, match=r"unknown backend 'natve'; did you mean 'native'\?"):
        load_registry().find("backend", "natve")


def test_an_event_that_raises_is_one_line_and_the_others_are_told(site: Path) -> None:
    install(site, "acme", HOOK + "def qpabench_cell_started(cell):\n    raise RuntimeError('a\\nb')\n")
    install(
        site,
        "other-one",
        "told = []\n" + HOOK + "def qpabench_cell_started(cell):\n    told.append(cell['id'])\n",
    )
    (complaint,) = load_registry().tell("qpabench_cell_started", cell={"id": "x"})
    assert "acme" in complaint
    assert "RuntimeError" in complaint
    assert "\n" not in complaint
    assert sys.modules["other_one"].told == ["x"]


def test_an_event_hook_may_leave_its_argument_out(site: Path) -> None:
    install(site, "acme", "calls = []\n" + HOOK + "def qpabench_cell_finished():\n    calls.append(1)\n")
    assert load_registry().tell("qpabench_cell_finished", record={}) == []
    assert sys.modules["acme"].calls == [1]


def test_a_component_that_cannot_be_loaded_is_named(site: Path) -> None:
    install(site, "acme", HOOK + f"def qpabench_backends():\n    yield {ENTRY.format(name='hollow')}\n")
    entry = load_registry().find("backend", "hollow").entry
    with pytest.raises(PluginError, match="backend 'hollow': cannot load 'nowhere:Nothing'"):
        entry.component()


def test_an_object_given_in_code_is_a_plugin_too() -> None:
    import qpabench

    class Plugin:
        @qpabench.hookimpl
        def qpabench_backends(self):
            yield qpabench.BackendEntry(name="given", summary="s", load="a:b")

    assert load_registry({"mine": Plugin()}).find("backend", "given").source.plugin == "mine"
