"""Retrieval data of every kind behind one interface: open a collection, list its training pairs."""

from experiment.collections.beir_folder import write_beir_folder
from experiment.collections.model import Collection, Document, training_pairs
from experiment.collections.sources import check_source, open_collection

__all__ = ["Collection", "Document", "check_source", "open_collection", "training_pairs", "write_beir_folder"]
