"""The study's test collections: up to 300 judged queries of each, and a corpus small enough to search for every head.

``python -m benchmarks.study_data --data .data --out .data/study`` reads folders in BEIR layout and writes smaller ones.
A corpus keeps every judged document of the queries that are kept, and others up to 2,000 in all. Those trained on
get up to 300 other queries as development queries, which choose learning rates. Which queries and documents are kept
follows from a hash of their ids, so every machine makes the same collections.
"""

import argparse
import hashlib
from pathlib import Path

from experiment.collections import open_collection, write_beir_folder

QUERIES, DOCUMENTS = 300, 2000

SPLITS = {
    "squad": "dev",
    "medquad": "test",
    "fairytaleqa": "test",
    "clef2020_checkthat_t2": "test",
    "scifact": "test",
    "cranfield": "test",
    "cacm": "test",
    "vaswani_npl": "test",
}
"""The collections, with the split that the study tests on."""

TRAINED_ON = ("squad", "medquad")
"""Collections that get development queries, from the same split."""


def main() -> None:
    """Write the collections."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(".data"), help="folder with the collections in BEIR layout")
    parser.add_argument("--out", type=Path, default=Path(".data/study"), help="folder to write")
    options = parser.parse_args()
    for name, split in SPLITS.items():
        whole = open_collection(str(options.data / name), split=split)
        queries = sorted(whole.qrels, key=_place)[: 2 * QUERIES if name in TRAINED_ON else QUERIES]
        split_of = {"test": queries[:QUERIES], "dev": queries[QUERIES:]}
        qrels = {one: {query: whole.qrels[query] for query in names} for one, names in split_of.items() if names}
        judged = {document for query in queries for document in whole.qrels[query] if document in whole.corpus}
        others = sorted(whole.corpus.keys() - judged, key=_place)[: max(0, DOCUMENTS - len(judged))]
        corpus = [whole.corpus[document] for document in sorted(judged.union(others), key=_place)]
        texts = {query: whole.queries[query] for query in queries}
        write_beir_folder(options.out / name, corpus, texts, qrels)
        counts = ", ".join(f"{len(names)} {one}" for one, names in split_of.items() if names)
        print(f"{name}: {counts} of {len(whole.qrels)} queries, {len(corpus)} of {len(whole.corpus)} documents")


def _place(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


if __name__ == "__main__":
    main()
