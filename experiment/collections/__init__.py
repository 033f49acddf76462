"""Retrieval data of every kind through one interface: open a collection, list its training pairs."""

from experiment.collections.beir_folder import write_beir_folder
from experiment.collections.collection import Collection, Document, list_ids, list_passages, training_pairs
from experiment.collections.sources import check_source, official_split, open_collection
from experiment.collections.suites import suite_notes

__all__ = [
    "Collection",
    "Document",
    "check_source",
    "list_ids",
    "list_passages",
    "official_split",
    "open_collection",
    "suite_notes",
    "training_pairs",
    "write_beir_folder",
]
