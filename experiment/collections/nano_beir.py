"""NanoBEIR: thirteen collections of BEIR, reduced to about 50 queries and a few thousand documents each.

The repositories are Zeta Alpha's, ``zeta-alpha-ai/Nano<Name>`` on the Hugging Face hub, each with the configurations
corpus, queries and qrels. The only split is called train, although it is for testing. The names are those of
``NanoBEIREvaluator`` in sentence-transformers and in PyLate. Two conventions differ from theirs and follow BEIR: a
query never finds the document that has its own id (ArguAna), and empty documents stay in the corpus.
"""

from experiment.collections.hub import missing_from_hub_cache, open_hub
from experiment.collections.source import Source
from projheads.errors import unknown_name

__all__ = ["NANO", "NANO_BEIR"]

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
"""By the name after ``nano:``, the name of the repository, which tables show."""

OWNER = "zeta-alpha-ai"


def _label(name: str) -> str:
    """Return the name of the collection after ``nano:``, in any case."""
    if name.lower() not in NANO_BEIR:
        raise unknown_name("NanoBEIR dataset", name, NANO_BEIR)
    return NANO_BEIR[name.lower()]


NANO = Source(
    spelling="nano:<name>",
    about="a collection of NanoBEIR, only for testing",
    open=lambda name, split, cache: open_hub(f"{OWNER}/{_label(name)}", split=split),
    missing=lambda name, cache: missing_from_hub_cache(f"{OWNER}/{_label(name)}"),
    split=lambda name: "train",
    label=_label,
    examples=lambda: [f"nano:{name}" for name in NANO_BEIR],
    not_for_training="train on the complete collection, beir:<name>",
    published_without_same_ids=True,
)
