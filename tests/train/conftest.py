import numpy as np
import pytest
import torch

from experiment.collections import Document, write_beir_folder
from experiment.config import TrainConfig
from experiment.encoding.tokens import TokenStore
from train.data.examples import TrainingData
from train.embedding.embedders import FrozenEmbedder

NOUNS = ["cat", "dog", "bird", "paris", "france", "rain", "sun", "mat"]
VERBS = ["sat", "run", "walk", "is"]

YAML = """\
output: out
cache: cache
seeds: [0, 1]
device: cpu
model: {{backbone: {backbone}, query_length: 12, document_length: 16}}
heads: {{out_features: 8, init: torch, variants: [linear, ffn(depth=2)]}}
train: {{data: {data}, batch_size: 4, validation_pairs: 4, log_every: 2}}
sweep: {{}}
eval: {{datasets: [{data}]}}
"""


@pytest.fixture
def settings():
    def settings(**options):
        return TrainConfig(**{"data": "pydocs", "batch_size": 8, "validations": 1, "log_every": 1} | options)

    return settings


def packed(texts, width, seed):
    """Token states of texts that share a direction with their partner, and noise."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(3, 9, size=texts)
    topics = np.random.default_rng(99).normal(size=(texts, width))
    rows = [topics[i] + generator.normal(size=(lengths[i], width)) for i in range(texts)]
    return TokenStore(np.concatenate(rows).astype("float16"), np.concatenate([[0], np.cumsum(lengths)]))


@pytest.fixture
def problem():
    """64 pairs, 16 of them held out, that a linear head can learn."""
    pairs = np.stack([np.arange(64), np.arange(64)], axis=1)
    data = TrainingData(
        queries=[f"query {i}" for i in range(64)],
        documents=[f"document {i}" for i in range(64)],
        examples=pairs[:48],
        teacher_scores=None,
        validation=pairs[48:],
        relevant={i: [i] for i in range(64)},
        hash="0",
        notes={},
    )
    return data, FrozenEmbedder(packed(64, 16, 1), packed(64, 16, 2), torch.device("cpu"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with `try.yaml` in it."""

    def make(backbone):
        monkeypatch.chdir(tmp_path)
        words = [(noun, verb) for noun in NOUNS for verb in VERBS]
        corpus = [Document(f"d{i}", noun, f"the {noun} {verb} on a mat") for i, (noun, verb) in enumerate(words)]
        queries = {f"q{i}": f"what {verb} the {noun}" for i, (noun, verb) in enumerate(words)}
        qrels = {f"q{i}": {f"d{i}": 1} for i in range(len(words))}
        write_beir_folder(tmp_path / "set", corpus, queries, {"train": qrels, "test": qrels})
        (tmp_path / "try.yaml").write_text(YAML.format(backbone=backbone, data=tmp_path / "set"))
        return tmp_path

    return make
