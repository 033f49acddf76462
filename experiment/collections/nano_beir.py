"""NanoBEIR: thirteen collections of BEIR cut down to some 50 queries and some thousands of documents each.

The repositories are Zeta Alpha's, ``zeta-alpha-ai/Nano<Name>`` on the Hugging Face hub, each with the configurations
corpus, queries and qrels; the one split of each is called train, though it is for testing. The names are those of
``NanoBEIREvaluator`` in sentence-transformers and in PyLate. Two conventions differ from theirs and follow BEIR: a
query never finds the document that has its own id (ArguAna), and empty documents stay in the corpus.
"""

from experiment.collections.collection import Collection
from experiment.collections.hub import in_hub_cache, open_hub
from projheads.errors import unknown_name

__all__ = ["NANO_BEIR", "NANO_SPLIT", "in_nano_cache", "nano_name", "open_nano"]

NANO_BEIR = {
    "climatefever": "NanoClimateFEVER",
    "dbpedia": "NanoDBPedia",
    "fever": "NanoFEVER",
    "fiqa2018": "NanoFiQA2018",
    "hotpotqa": "NanoHotpotQA",
    "msmarco": "NanoMSMARCO",
    "nfcorpus": "NanoNFCorpus",
    "nq": "NanoNQ",
    "quoraretrieval": "NanoQuoraRetrieval",
    "scidocs": "NanoSCIDOCS",
    "arguana": "NanoArguAna",
    "scifact": "NanoSciFact",
    "touche2020": "NanoTouche2020",
}
"""What stands after ``nano:``, and how the repository and every table calls it."""

NANO_SPLIT = "train"
"""The only split that the repositories have."""

OWNER = "zeta-alpha-ai"


def nano_name(name: str) -> str:
    """Return what the collection after ``nano:`` is called; capitals do not matter.

    Raises:
        ProjheadsError: If NanoBEIR has no such collection.
    """
    if name.lower() not in NANO_BEIR:
        raise unknown_name("NanoBEIR dataset", name, NANO_BEIR)
    return NANO_BEIR[name.lower()]


def in_nano_cache(name: str) -> bool:
    """Tell whether something of the collection lies in the hub's cache on this disk."""
    return in_hub_cache(f"{OWNER}/{nano_name(name)}")


def open_nano(name: str, *, split: str) -> Collection:
    """Open a collection of NanoBEIR; see ``open_hub`` for the errors."""
    return open_hub(f"{OWNER}/{nano_name(name)}", split=split)
