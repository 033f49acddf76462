"""Memory that does not grow with the corpus: encoding, search and compression, each in a separate process."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import eval.search.exact as exact
from benchmarks.eval_data import in_child
from eval.search.compressed import stored_as
from eval.search.fde import fde_rankings
from eval.search.ranking import Problem
from experiment.config.storage_forms import parse_storage
from experiment.encoding import windows
from experiment.encoding.store import TokenStore, offsets_of
from experiment.encoding.tokens import encode_tokens

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the memory of a process there")

WIDTH, WORDS, SMALL, LARGE = 256, 8, 20_000, 80_000
SPARE = 100 * 10**6
"""Of the 245 MB by which the large store exceeds the small one; allocators keep tens of them back at random."""


class LookupModel:
    """Every word is one token with a row of a table."""

    in_features = out_features = WIDTH
    device = torch.device("cpu")

    def __init__(self):
        self.native, self.head = nn.Embedding(100, WIDTH), nn.Identity()

    def tokenize(self, texts, *, is_query):
        return {"input_ids": torch.tensor([[int(word) for word in text.split()] for text in texts])}

    def scoring_mask(self, tokens, *, is_query):
        return torch.ones_like(tokens["input_ids"], dtype=torch.bool)

    def count_truncated(self, texts, *, is_query):
        return 0

    def token_states(self, tokens):
        return self.native(tokens["input_ids"])


def encode(folder, count):
    rows = np.random.default_rng(0).integers(100, size=(count, WORDS))
    texts = [" ".join(map(str, row)) for row in rows.tolist()]
    store = encode_tokens(LookupModel(), texts, is_query=False, project=True, folder=Path(folder))
    return {"stored": store.vectors.nbytes}


def search(file, count):
    windows.SEARCHED_BYTES = 2**24
    rows = np.memmap(file, np.float16, "r", shape=(count * WORDS, WIDTH))
    documents = TokenStore(rows, offsets_of(np.full(count, WORDS)))
    # Different words, or many documents would have one score, and all of those are looked at.
    tokens = np.random.default_rng(1).standard_normal((WORDS, WIDTH)) / np.sqrt(WIDTH)
    queries = TokenStore(tokens.astype(np.float16), offsets_of(np.array([WORDS])))
    problem = Problem(queries, documents, 10, np.arange(count), np.full(1, -1))
    (found,) = exact.exact_search(problem, device=torch.device("cpu"))
    return {"best": found.documents.tolist()}


def compress(file, count):
    """Centre, code and read back a corpus, and search it with fixed-dimensional encodings."""
    rows = np.memmap(file, np.float16, "r", shape=(count * WORDS, WIDTH))
    documents = TokenStore(rows, offsets_of(np.full(count, WORDS)))
    queries = TokenStore(np.array(rows[:WORDS]), offsets_of(np.array([WORDS])))
    problem = Problem(queries, documents, 10, np.arange(count), np.full(1, -1))
    with stored_as(parse_storage("dim64-centred-int4"), queries, documents, Path(file).parent) as stored:
        size = stored.index_bytes
    options = {"k_sim": 3, "reps": 4, "projection": 8, "final": 0}
    (found,), _ = fde_rankings(problem, options, 10, Path(file).parent, lambda share: None)
    return {"best": found.documents.tolist(), "size": size}


def test_compression_and_encodings_take_no_more_memory_for_a_larger_corpus(tmp_path):
    rows = np.random.default_rng(0).standard_normal((LARGE * WORDS // 2, WIDTH), np.float32)
    (tmp_path / "vectors").write_bytes((rows / 16).astype(np.float16).tobytes())
    small, large = (in_child(compress, tmp_path / "vectors", count) for count in (SMALL // 2, LARGE // 2))
    assert large["size"] > 3.9 * small["size"]
    assert large["best"][0] == small["best"][0] == 0
    assert large["anonymous_bytes"] < small["anonymous_bytes"] + SPARE // 2  # of 123 MB


def test_encoding_and_exact_search_take_no_more_memory_for_a_larger_corpus(tmp_path):
    small, large = (in_child(encode, tmp_path / str(count), count) for count in (SMALL, LARGE))
    assert large["stored"] - small["stored"] > 2 * SPARE
    assert large["anonymous_bytes"] < small["anonymous_bytes"] + SPARE
    files = [tmp_path / str(count) for count in (SMALL, LARGE)]
    vectors = [next(folder.rglob("vectors.bin")) for folder in files]
    small, large = (in_child(search, path, count) for path, count in zip(vectors, (SMALL, LARGE), strict=True))
    assert len(large["best"]) == 10
    assert large["anonymous_bytes"] < small["anonymous_bytes"] + SPARE
