"""What can be said of a model's files without loading them: whole or not, how wide, which."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from qpabench.cache import file_hash

#: Files that decide what a folder's model computes.
MEANINGFUL = {".json", ".safetensors", ".bin", ".txt", ".model", ".gguf", ".py"}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
INDEX_FILES = ("model.safetensors.index.json",)


def folder_problem(folder: Path) -> str | None:
    """Say what keeps a folder from being loaded as a model.

    Args:
        folder: what ``save_pretrained`` or a download wrote.

    Returns:
        None, or one line: what was found and what was expected.
    """
    if not folder.is_dir():
        return f"{folder} is not a folder; expected one with config.json, weights and a tokenizer"
    if not (folder / "config.json").is_file():
        return f"{folder} has no config.json; expected a folder written by save_pretrained or a download"
    if read_config(folder) is None:
        return f"{folder / 'config.json'} is not a JSON object; copy or download it again"
    files, absent = _weight_files(folder)
    if absent:
        return f"{folder} lacks the weight file {absent[0]}; copy or download it again"
    if not files:
        if any(folder.glob("pytorch_model*.bin")):
            return (
                f"{folder} has pickled weights only (pytorch_model*.bin), which are not loaded; save them "
                "with safe_serialization=True, expected *.safetensors"
            )
        return f"{folder} has no weights; expected *.safetensors"
    for file in files:
        problem = safetensors_problem(file) if file.suffix == ".safetensors" else None
        if problem:
            return problem
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return f"{folder} has no tokenizer; expected {', '.join(TOKENIZER_FILES[:3])} or the like"
    return None


def safetensors_problem(file: Path) -> str | None:
    """Say whether a safetensors file is cut short, from its header alone.

    Returns:
        None, or one line with the bytes found and expected.
    """
    size = file.stat().st_size
    again = "copy or download it again"
    with file.open("rb") as stream:
        start = stream.read(8)
        if len(start) < 8:
            return f"{file} is truncated: {size} bytes, no header; {again}"
        (header_bytes,) = struct.unpack("<Q", start)
        if header_bytes > size - 8:
            return (
                f"{file} is truncated or no safetensors file: {size} bytes, header of {header_bytes}; {again}"
            )
        try:
            header: dict[str, Any] = json.loads(stream.read(header_bytes))
            ends = [value["data_offsets"][1] for name, value in header.items() if name != "__metadata__"]
            if not all(type(end) is int for end in ends):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            return f"{file} has a damaged header; {again}"
    expected = 8 + header_bytes + max(ends, default=0)
    if size < expected:
        return f"{file} is truncated: {size} bytes, expected {expected}; {again}"
    return None


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return ``config.json`` of a folder, or None when there is no readable one."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) else None


def head_shape(folder: Path) -> tuple[int, int] | None:
    """Return (d_in, d_out) of ``lm_head`` as ``config.json`` gives it; None when it doesn't say."""
    config = read_config(folder) or {}
    inner = config.get("text_config")
    config = {**config, **(inner if isinstance(inner, dict) else {})}
    names = ("word_embed_proj_dim", "hidden_size", "n_embd", "d_model")
    width = next((config[name] for name in names if isinstance(config.get(name), int)), None)
    vocabulary = config.get("vocab_size")
    return (width, vocabulary) if isinstance(width, int) and isinstance(vocabulary, int) else None


def folder_fingerprint(folder: Path) -> str:
    """Return a hash over names, sizes and contents of a folder's configuration, weights and tokenizer."""
    digest = hashlib.sha256()
    if not folder.is_dir():
        return "folder:absent"
    for file in sorted(folder.iterdir(), key=lambda path: path.name):
        if file.is_file() and file.suffix in MEANINGFUL:
            digest.update(f"{file.name}\0{file.stat().st_size}\0{file_hash(file)}\n".encode())
    return f"folder:sha256:{digest.hexdigest()}"


def _weight_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Return (weight files there, names of weight files an index promises but that aren't there)."""
    for index in INDEX_FILES:
        if not (folder / index).is_file():
            continue
        try:
            named = sorted(set(json.loads((folder / index).read_text("utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return [], [f"list of {index} (it is damaged)"]
        return (
            [folder / name for name in named if (folder / name).is_file()],
            [name for name in named if not (folder / name).is_file()],
        )
    return sorted(folder.glob("*.safetensors")), []
