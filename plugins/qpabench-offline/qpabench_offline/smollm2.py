"""Load SmolLM2-135M; its weights are made float once and kept."""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from qpabench import UnavailableError
from qpabench.cache import file_hash, published
from qpabench.models.load import load_folder
from qpabench.models.model import LoadedModel
from qpabench_offline.options import SmolLM2Options

#: raise it whenever the kept copy is written in another way
COPY_FORMAT = 1


def load(options: SmolLM2Options) -> LoadedModel:
    """Load the model: some 20 s the first time, a second or two later.

    Args:
        options: device and dtype.

    Returns:
        The frozen model: d = 576, V = 49152, tied head, 8192 positions.

    Raises:
        UnavailableError: the package with the weights isn't installed; the message holds the command.
    """
    problem = options.missing()
    file = options.file()
    if problem or file is None:
        raise UnavailableError(f"model smollm2-135m: {problem}")
    name = f"smollm2-135m/{file_hash(file)[:32]}-{COPY_FORMAT}"
    return load_folder(published(name, lambda folder: write_copy(file, folder)), options)


def write_copy(file: Path, folder: Path) -> None:
    """Write the weights of a GGUF file as float32 safetensors, with configuration and tokenizer.

    Args:
        file: the GGUF file.
        folder: an empty folder.
    """
    from safetensors.torch import save_model

    with redirect_stderr(StringIO()):  # the reader draws a bar that can't be switched off
        model = load_folder(file.parent, SmolLM2Options(), gguf_file=file.name)
    config: Any = model.module.config
    if hasattr(config, "quantization_config"):  # the weights are float now
        del config.quantization_config
    config.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    save_model(model.module, str(folder / "model.safetensors"), metadata={"format": "pt"})
