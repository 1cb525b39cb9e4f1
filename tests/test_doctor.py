"""What a machine has and lacks."""

import os

import pytest

from qpabench.doctor import diagnose


def lines(monkeypatch: pytest.MonkeyPatch, offline: str) -> dict[str, str]:
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.setenv("HF_HUB_CACHE", "nowhere")
    found = [line.strip().split(": ", 1) for line, _ in diagnose(self_test=False) if ": " in line]
    return {pair[0]: pair[1] for pair in found}


def test_weights_still_to_be_fetched_are_not_called_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines(monkeypatch, "0")["model gpt2"].startswith("not on this machine")
    assert os.environ["HF_HUB_OFFLINE"] == "0"


def test_weights_that_cannot_be_fetched_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hf download openai-community/gpt2" in lines(monkeypatch, "1")["model gpt2"]


def test_what_needs_no_hub_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines(monkeypatch, "0")["model tiny-gpt2"] == "ready"
