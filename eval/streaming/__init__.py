"""Evaluation in one pass over a corpus: chunks are encoded, searched with every head and forgotten."""
