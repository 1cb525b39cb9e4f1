"""What a plugin changes around it while it is loaded is undone: every cell of a suite loads every plugin."""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_plugins import install

from qpabench.hooks.manager import load_registry

#: what a module does when it is imported -> (its source, what must be as before)
RUDE: dict[str, tuple[str, Callable[[], object]]] = {
    "changes folder": ("import os\nos.chdir('/')\n", Path.cwd),
    "sets a variable": ("import os\nos.environ['QPABENCH_CACHE'] = '/x'\n", lambda: dict(os.environ)),
    "adds a variable": ("import os\nos.environ['RUDE_PLUGIN'] = '1'\n", lambda: dict(os.environ)),
    "removes variables": ("import os\nos.environ.clear()\n", lambda: dict(os.environ)),
    "turns warnings into errors": (
        "import warnings\nwarnings.simplefilter('error')\n",
        lambda: list(warnings.filters),
    ),
    "replaces the output": ("import sys\nsys.stdout = sys.stderr = None\n", lambda: (sys.stdout, sys.stderr)),
}


@pytest.mark.parametrize("what", RUDE)
@pytest.mark.parametrize("then", ["", "1 / 0\n"], ids=["and works", "and raises"])
def test_surroundings_are_as_before(
    what: str, then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, state = RUDE[what]
    monkeypatch.delenv("QPABENCH_STRICT_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    module = install(tmp_path, "rude-guest", source + then)
    monkeypatch.delitem(sys.modules, module, raising=False)
    before = state()
    registry = load_registry()
    assert module in sys.modules or [broken.source.distribution for broken in registry.broken] == [
        "rude-guest"
    ]
    assert state() == before
    sys.modules.pop(module, None)
