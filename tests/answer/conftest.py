import pytest

from experiment.collections import Document, write_beir_folder

NOUNS = ["cat", "dog", "bird", "paris", "france", "rain", "sun", "mat"]
VERBS = ["sat", "run", "walk", "is"]
YAML = """\
output: out
cache: cache
device: cpu
question: {{resolution: 2.0, seeds: 3..5}}
model: {{backbone: {backbone}, query_length: 12, document_length: 16}}
heads: {{out_features: 8, init: torch, variants: [linear, ffn(depth=2), broken]}}
train: {{data: set, batch_size: 4, validation_pairs: 4, epochs: 2, optimizer: {{head_lr: 1e-2}}}}
eval: {{datasets: [set], references: [untrained]}}
sweep: {{}}
"""


@pytest.fixture(scope="session")
def collection(tmp_path_factory):
    """A folder that holds the collection `set`."""
    folder = tmp_path_factory.mktemp("collection")
    words = [(noun, verb) for noun in NOUNS for verb in VERBS]
    corpus = [Document(f"d{i}", noun, f"the {noun} {verb} on a mat") for i, (noun, verb) in enumerate(words)]
    queries = {f"q{i}": f"what {verb} the {noun}" for i, (noun, verb) in enumerate(words)}
    qrels = {f"q{i}": {f"d{i}": 1} for i in range(len(words))}
    write_beir_folder(folder / "set", corpus, queries, {"train": qrels, "test": qrels})
    return folder
