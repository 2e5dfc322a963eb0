"""Corpora to tokens to batches."""
