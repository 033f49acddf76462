"""Made-up corpora of any size, a tiny random backbone, and untrained trials, for ``benchmarks.scale``."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from experiment.collections import open_collection
from experiment.config.load import dump_config, load_config
from experiment.disk.files import write_folder, write_text
from experiment.disk.layout import ExperimentFolder
from experiment.disk.models import save_model, weights_hash
from experiment.disk.records import TrainTimings, TrialRecord
from projheads.build import build_head
from projheads.cost import head_cost
from projheads.hosts import load_host
from projheads.hosts.backbone import resolve_backbone

__all__ = ["HEADS", "make_corpus", "make_experiment", "make_tiny_backbone"]

HEADS = (
    "linear",
    "ffn(activation=gelu)",
    "ffn(activation=identity)",
    "upscaled",
    "upscaled(residual=true)",
    "glu",
    "residual(inner=glu)",
)
WORDS, QUERY_WORDS = (12, 40), 8
SPREAD = 5.0
"""Word embeddings are multiplied by this, so that words matter more than positions, as in a trained backbone."""


def make_corpus(folder: Path, words_of: Path, documents: int, queries: int) -> Path:
    """Write documents of 12 to 39 words drawn from those of a real collection, and queries of words of one each."""
    if folder.exists():
        return folder
    collection, drawn = open_collection(str(words_of), split="test"), np.random.default_rng(documents)
    words = np.array(" ".join(document.text for document in collection.corpus.values()).split(), dtype=object)
    asked = set(drawn.choice(documents, queries, replace=False).tolist())
    with write_folder(folder) as made:
        (made / "qrels").mkdir()
        with (
            (made / "corpus.jsonl").open("w", encoding="utf-8") as corpus,
            (made / "queries.jsonl").open("w", encoding="utf-8") as asking,
            (made / "qrels" / "test.tsv").open("w", encoding="utf-8") as qrels,
        ):
            qrels.write("query-id\tcorpus-id\tscore\n")
            for number in range(documents):
                text = words[drawn.integers(len(words), size=drawn.integers(*WORDS))]
                corpus.write(json.dumps({"_id": f"d{number}", "text": " ".join(text)}) + "\n")
                if number in asked:
                    chosen = " ".join(drawn.choice(text, QUERY_WORDS))
                    asking.write(json.dumps({"_id": f"q{number}", "text": chosen}) + "\n")
                    qrels.write(f"q{number}\td{number}\t1\n")
    return folder


def make_tiny_backbone(folder: Path, tokenizer_of: str) -> Path:
    """Write a BERT of two layers of width 64 with random weights and the tokenizer of a real backbone."""
    if not folder.exists():
        import transformers

        tokenizer = transformers.AutoTokenizer.from_pretrained(resolve_backbone(tokenizer_of))
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128
        )
        with write_folder(folder) as made:
            tokenizer.save_pretrained(made)
            model = transformers.BertModel(config)
            model.embeddings.word_embeddings.weight.data *= SPREAD
            model.save_pretrained(made)
    return folder


def make_experiment(
    folder: Path, backbone: str, dataset: Path, heads: Sequence[str], host: str, overrides: Sequence[str] = ()
) -> Path:
    """Write an experiment of untrained heads on a frozen backbone as training would; return its YAML."""
    yaml = folder / "experiment-to-run.yaml"
    values = {
        "output": str(folder / "out"),
        "cache": str(folder / "cache"),
        "seeds": [0],
        "model": {"backbone": backbone, "host": host},
        "heads": {"variants": list(heads), "baseline": heads[0]},
        "train": {"data": str(dataset)},
        "sweep": {},
        "eval": {"datasets": [str(dataset)], "references": [], "linearise": False},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_text(yaml, json.dumps(values))
    config = load_config(yaml, overrides)
    experiment, adapter = ExperimentFolder(config.output), load_host(host)
    write_text(experiment.experiment_yaml, dump_config(config))
    first: Path | None = None
    for spec in config.heads.variants:
        files = experiment.trial(spec.slug, 0)
        width = adapter.backbone_width(backbone, config.model.settings())
        head = build_head(spec, width, config.heads.out_features, generator=torch.Generator().manual_seed(0))
        model = adapter.create(backbone, head, config.model.settings(), device="cpu")
        save_model(model, files.model, backbone_from=first)
        first, cost = first or files.model, head_cost(head)
        TrialRecord(
            status="finished",
            label=str(spec),
            slug=spec.slug,
            head=spec.to_dict(),
            is_baseline=spec == config.heads.baseline,
            seed=0,
            in_features=width,
            out_features=config.heads.out_features,
            key="0",
            weights_hash=weights_hash(files.model),
            host=host,
            parameters=cost.parameters,
            multiply_adds=cost.multiply_adds,
            folds=cost.folds,
            timings=TrainTimings(train_s=1.0, examples_per_s=1.0),
        ).write(files.trial_json)
    return yaml
