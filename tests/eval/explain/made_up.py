"""Made-up embeddings as a diagnostic gets them."""

from types import SimpleNamespace

import numpy as np

from eval.explain import Given, list_diagnostics
from experiment.encoding.store import TokenStore, offsets_of


def store(texts):
    """Make a store of texts, each a list of vectors."""
    rows = [np.asarray(text, np.float32).reshape(len(text), -1) for text in texts]
    return TokenStore(np.concatenate(rows), offsets_of(np.array([len(text) for text in rows])))


def given(documents, queries=None, *, qrels=None, pieces=None, run=None):
    """Make what a diagnostic may read; documents are d0, d1, ... and queries q0, q1, ..."""
    documents, queries = store(documents), store(documents if queries is None else queries)
    task = SimpleNamespace(
        document_ids=[f"d{place}" for place in range(len(documents))],
        collection=SimpleNamespace(qrels=qrels or {f"q{place}": {} for place in range(len(queries))}),
    )
    asked = SimpleNamespace(
        word_pieces=lambda subject, texts, is_query: (
            None if pieces is None else np.concatenate([np.asarray(pieces[text]) for text in texts])
        )
    )
    made = Given(None, task, asked, None, queries, documents, None, None)
    if run is not None:
        vars(made)["run"] = run
    return made


def values(name, of):
    """Compute a diagnostic by its name."""
    found = next(one for one in list_diagnostics() if one.name == name).compute(of)
    return {} if found is None else dict(found)
