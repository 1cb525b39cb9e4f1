"""Frozen-feature cache, training loop, evaluation."""
