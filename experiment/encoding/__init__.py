"""Texts to token states and token embeddings, and the stores that hold them."""
