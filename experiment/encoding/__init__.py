"""Encoding texts into token states and token embeddings, and storing them."""
