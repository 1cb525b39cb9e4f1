"""The model and dataset hub: what is cached, whether it may be asked, and a quick answer when it can't be."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from qpabench.errors import UnavailableError, one_line

TIMEOUT_SECONDS = 10.0


def is_offline() -> bool:
    """Tell whether the environment forbids asking the hub."""
    return any(
        os.environ.get(name, "").strip().upper() in {"1", "ON", "YES", "TRUE"}
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    )


@contextmanager
def forbidden_hub() -> Iterator[None]:
    """Forbid asking the hub for a while."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


def cached_snapshot(repo: str, revision: str) -> Path | None:
    """Return the folder of a model already downloaded; its name is the commit."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repo, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None


def commit(repo: str, revision: str, kind: Literal["model", "dataset"]) -> str:
    """Ask the hub which commit a revision is, once and without the retries of a download.

    Args:
        repo: owner/name.
        revision: branch, tag or commit.
        kind: of repository.

    Raises:
        UnavailableError: the cause in a few words, without advice.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        with quiet_hub():
            info = HfApi().repo_info(repo, revision=revision, repo_type=kind, timeout=TIMEOUT_SECONDS)
    except GatedRepoError as error:
        raise UnavailableError("access is gated (accept its licence, then run `hf auth login`)") from error
    except RepositoryNotFoundError as error:
        raise UnavailableError("no such repository, or it is private (`hf auth login`)") from error
    except RevisionNotFoundError as error:
        raise UnavailableError(f"no revision {revision!r}") from error
    except Exception as error:  # network, proxies, certificates: all mean "not to be had now"
        raise UnavailableError(f"the hub can't be reached ({one_line(error, 120)})") from error
    return info.sha or revision


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Silence the hub client's progress bars and notes on retries, and put them back."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    bars = not are_progress_bars_disabled()
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    if bars:
        disable_progress_bars()
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        if bars:
            enable_progress_bars()
        logger.setLevel(level)
