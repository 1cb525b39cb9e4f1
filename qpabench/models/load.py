"""Load a frozen causal language model from the hub or a folder; refuse what would be measured wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from qpabench import hub
from qpabench.errors import InputError, QpabenchError, UnavailableError, UnsupportedError, one_line
from qpabench.hooks.entries import ModelOptions
from qpabench.models import weights
from qpabench.models.model import LoadedModel
from qpabench.models.options import PretrainedOptions

#: Largest |lm_head(features) - logits| / max |logits|; both come from the same arithmetic.
HEAD_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


def load(options: PretrainedOptions) -> LoadedModel:
    """Load a model by its options.

    Args:
        options: those of ``gpt2``, ``gpt2-xl``, ``gemma-2b``, ``gemma-2-2b`` or ``huggingface``.

    Returns:
        The frozen model on its device.

    Raises:
        UnavailableError: no weights here and none to be had; the message holds the download command.
        InputError: the weights are incomplete, or the tokenizer has neither a pad nor an end token.
        UnsupportedError: the logits aren't those of a linear ``lm_head``.
    """
    require_device(options.device)
    problem = options.missing()
    if problem:
        raise UnavailableError(problem)
    if options.path is not None:
        return load_folder(Path(options.path).expanduser(), options, remote_code=options.remote_code())
    repo, snapshot = options.repository(), options.folder()
    assert repo is not None
    if snapshot and weights.folder_problem(snapshot) is None and not options.remote_code():
        return load_folder(snapshot, options)  # already here: the hub isn't asked
    try:
        revision = options.revision if hub.is_offline() else hub.commit(repo, options.revision, "model")
        return load_folder(repo, options, remote_code=options.remote_code(), revision=revision)
    except UnavailableError as error:
        raise UnavailableError(options.advice(str(error))) from error


def load_folder(
    source: Path | str,
    options: ModelOptions,
    *,
    remote_code: bool = False,
    revision: str | None = None,
    gguf_file: str | None = None,
) -> LoadedModel:
    """Load a model and its tokenizer from a folder (or a repository of the hub) and check its head.

    Args:
        source: a folder, or ``owner/name`` of a repository that can be reached or is cached.
        options: device and dtype.
        remote_code: run code that comes with the weights.
        revision: commit of the repository.
        gguf_file: name of a GGUF file inside ``source`` that holds weights and tokenizer.

    Returns:
        The frozen model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    require_device(options.device)
    common: dict[str, Any] = {"trust_remote_code": remote_code}
    if gguf_file is not None:
        common["gguf_file"] = gguf_file
    if isinstance(source, str):
        common["revision"] = revision
    else:
        common["local_files_only"] = True
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(source), **common)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(source),
                dtype=getattr(torch, options.dtype),
                output_loading_info=True,
                use_safetensors=True if gguf_file is None else None,  # never a pickle
                **common,
            )
    except QpabenchError:
        raise
    except Exception as error:  # the hub, the file formats and remote code raise many kinds
        cause = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UnavailableError(f"cannot load {source}: {one_line(cause)}") from error
    module, info = loaded
    absent = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if absent:
        raise InputError(
            f"weights of {source} are incomplete: {len(absent)} tensors are absent or of another shape, "
            f"{absent[0]} first; copy or download them again"
        )
    return finish(module, tokenizer, options, str(source))


def finish(module: Any, tokenizer: Any, options: ModelOptions, source: str) -> LoadedModel:
    """Freeze a model, settle padding and limits, and check its head.

    Args:
        module: a causal language model of transformers.
        tokenizer: its tokenizer.
        options: device and dtype.
        source: its name in messages.
    """
    module = module.to(device=options.device, dtype=getattr(torch, options.dtype)).eval()
    module.requires_grad_(False)
    module.config.use_cache = False
    config = module.config.get_text_config()
    model = LoadedModel(
        module=module,
        tokenizer=tokenizer,
        pad_token_id=_pad_token(tokenizer, source),
        max_positions=_max_positions(config, tokenizer),
        logit_softcap=getattr(config, "final_logit_softcapping", None),
    )
    check_head(model, source)
    return model


@torch.no_grad()
def check_head(model: LoadedModel, source: str = "the model") -> float:
    """Compare ``lm_head(features)`` (and softcap) with the logits of the whole model on eight tokens.

    Args:
        model: what was loaded.
        source: its name in messages.

    Returns:
        The largest difference, relative to the largest logit.

    Raises:
        UnsupportedError: they differ (the logits are scaled in another way), or there is no linear head.
    """
    head = model.module.get_output_embeddings()  # type: ignore[operator]
    if not isinstance(head, torch.nn.Linear):
        raise UnsupportedError(
            f"{source}: its output layer is {type(head).__name__}, expected a linear lm_head"
        )
    ids = torch.arange(8, device=head.weight.device).remainder(head.out_features)[None]  # (1, 8)
    mask = torch.ones_like(ids)
    try:
        logits = head(model.features(ids, mask))
    except (AttributeError, TypeError, RuntimeError) as error:
        raise UnsupportedError(f"{source}: no hidden state before lm_head: {one_line(error)}") from error
    if model.logit_softcap is not None:
        logits = model.logit_softcap * torch.tanh(logits / model.logit_softcap)
    expected = model.module(input_ids=ids, attention_mask=mask).logits
    scale = expected.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    error_found = float((logits - expected).abs().max() / scale)
    if not error_found <= HEAD_TOLERANCE[head.weight.dtype]:
        raise UnsupportedError(
            f"{source}: lm_head(features) differs from the model's logits by {error_found:.2g} of the "
            "largest logit; models that scale their logits in another way can't be measured"
        )
    return error_found


def require_device(device: str) -> None:
    """Raise UnavailableError when a CUDA device is asked for that torch doesn't see."""
    if device == "cpu":
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(device.partition(":")[2] or 0)
    if index >= count:
        raise UnavailableError(f'device {device!r}: torch sees {count} CUDA devices; set device = "cpu"')


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars and advice of transformers and the hub client, and put them back."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with hub.quiet_hub():
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _pad_token(tokenizer: Any, source: str) -> int:
    """Return the pad token's id, falling back to the end-of-sequence token (as the released code does)."""
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise InputError(
                f"tokenizer of {source} has neither a pad nor an end-of-sequence token; add "
                '"pad_token" to its tokenizer_config.json'
            )
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"  # Gemma's tokenizer pads on the left by default
    return int(tokenizer.pad_token_id)


def _max_positions(config: Any, tokenizer: Any) -> int:
    """Return the longest input in tokens; a model without a limit gets its tokenizer's, else 131072."""
    limit = getattr(config, "max_position_embeddings", None) or getattr(tokenizer, "model_max_length", None)
    return min(int(limit), 131072) if limit else 131072
