"""A complete small experiment: an awkward collection, trained trials on disk, and a host that opens them."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from experiment.config.load import dump_config, load_config
from experiment.disk.files import write_text
from experiment.disk.layout import ExperimentFolder
from experiment.disk.models import weights_hash
from experiment.disk.records import ReferenceRecord, TrainTimings, TrialRecord
from projheads.build import build_head
from projheads.cost import head_cost
from projheads.hosts.head_files import load_head, save_head

WIDTH, OUT, LENGTH = 12, 6, 16

DOCUMENTS = {
    "1": ("", "red apples grow on trees"),
    "01": ("", "red apples grow on trees"),
    "d 2": ("Green", "pears hang low"),
    "tab\there": ("", "blue sky above the sea"),
    "é😀": ("Été", "soleil sur la mer"),
    "100%20": ("", "percent signs in names"),
    "empty": ("", ""),
    "dots": ("", ". , ; . ,"),
    "long": ("Long", "word " * 100_000 + "end"),
    "q1": ("", "red apples are what this query asks for"),
    "q3": ("", "yellow submarine under the sea"),
    **{f"filler-{number}": ("", f"{number} birds {number % 3} fish {number % 5} trees") for number in range(20)},
}
QUERIES = {
    "q1": "red apples",
    "q 2": "what grows on trees",
    "q3": "the sea",
    "q\u00a04": "",
    "5": "birds and fish",
    "unjudged": "nobody judged this",
}
JUDGEMENTS = [
    ("q1", "1", 2),
    ("q1", "01", 1),
    ("q1", "q1", 2),
    ("q 2", "1", 1),
    ("q 2", "1", 1),
    ("q 2", "gone", 1),
    ("q3", "tab\there", 3),
    ("q3", "é😀", 1),
    ("q3", "dots", -1),
    ("q\u00a04", "empty", 1),
    ("5", "filler-3", 1),
    ("5", "filler-4", 0),
    ("no text", "1", 1),
]


class FakeModel:
    """Words become rows of a table that is drawn from the backbone's seed; a row looks one word back."""

    host = "fake"
    in_features = WIDTH
    calls = 0

    def __init__(self, seed, head):
        self.seed = seed
        self.native = nn.Module()
        self.native.table = nn.Embedding(256, WIDTH)
        self.native.table.weight.data = torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(seed))
        self.head = head
        self.out_features = head.out_features

    @property
    def device(self):
        return torch.device("cpu")

    def tokenize(self, texts, *, is_query):
        ids = [[1, *(3 + sum(word.encode()) % 250 for word in text.split()[: LENGTH - 2]), 2] for text in texts]
        width = 8 if is_query else max(map(len, ids))
        padded = torch.tensor([row[:width] + [0] * (width - len(row)) for row in ids])
        return {"input_ids": padded, "attention_mask": (padded != 0).long()}

    def count_truncated(self, texts, *, is_query):
        return sum(len(text.split()) > LENGTH - 2 for text in texts)

    def scoring_mask(self, tokens, *, is_query):
        ids = tokens["input_ids"]
        marks = torch.tensor([3 + sum(mark.encode()) % 250 for mark in ".,;"])
        return torch.ones_like(ids, dtype=torch.bool) if is_query else (ids != 0) & ~torch.isin(ids, marks)

    def token_states(self, tokens):
        FakeModel.calls += 1
        states = self.native.table(tokens["input_ids"])
        return states + 0.5 * torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)

    def save(self, path, *, backbone_from=None):
        save_fake(Path(path), self.seed, self.head)


def save_fake(path, backbone_seed, head):
    """Write a model as a host does: modules.json, the backbone's files, the head's folder."""
    (path / "1_Head").mkdir(parents=True)
    modules = [{"path": "", "type": "Transformer"}, {"path": "1_Head", "type": "projheads.hosts.pylate.Projection"}]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "backbone.json").write_text(json.dumps({"seed": backbone_seed}))
    (path / "settings.json").write_text("{}")
    save_head(head, path / "1_Head")


def load_fake(path, options=None, *, device="cpu", dtype=None):
    """Open what ``save_fake`` wrote."""
    seed = json.loads((Path(path) / "backbone.json").read_text())["seed"]
    return FakeModel(seed, load_head(Path(path) / "1_Head"))


def write_collection(folder):
    """Write the awkward collection in BEIR layout."""
    (folder / "qrels").mkdir(parents=True)
    records = [{"_id": name, "title": title, "text": text} for name, (title, text) in DOCUMENTS.items()]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    records = [{"_id": name, "text": text} for name, text in QUERIES.items()]
    (folder / "queries.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    # The id with a tab needs the quotes of a real TSV writer.
    lines = ["query-id\tcorpus-id\tscore\n"]
    for query, document, grade in JUDGEMENTS:
        quoted = f'"{document}"' if "\t" in document else document
        lines.append(f"{query}\t{quoted}\t{grade}\n")
    for split in ("test", "train"):
        (folder / "qrels" / f"{split}.tsv").write_text("".join(lines), encoding="utf-8")


@dataclass
class Miniature:
    """A trained experiment in ``folder``, its configuration in ``yaml``."""

    yaml: Path
    folder: ExperimentFolder
    collection: Path

    def config(self, *overrides):
        return load_config(self.yaml, overrides)

    def change_trial(self, slug, seed, **changes):
        file = self.folder.trial(slug, seed).trial_json
        TrialRecord.read(file).replace(**changes).write(file)


def train_fake(config, backbone_seed=7):
    """Write what training would have written."""
    folder = ExperimentFolder(config.output)
    write_text(folder.experiment_yaml, dump_config(config))
    for spec in config.heads.variants:
        for seed in config.seeds:
            files = folder.trial(spec.slug, seed)
            head = build_head(spec, WIDTH, OUT, generator=torch.Generator().manual_seed(seed))
            cost = head_cost(head)
            own = 100 + seed if config.train.trainable == "all" else backbone_seed
            save_fake(files.model, own, head)
            TrialRecord(
                status="finished",
                label=str(spec),
                slug=spec.slug,
                head=spec.to_dict(),
                is_baseline=spec == config.heads.baseline,
                seed=seed,
                in_features=WIDTH,
                out_features=OUT,
                key="0",
                weights_hash=weights_hash(files.model),
                host="fake",
                parameters=cost.parameters,
                multiply_adds=cost.multiply_adds,
                folds=cost.folds,
                timings=TrainTimings(train_s=1.0, examples_per_s=1.0),
            ).write(files.trial_json)
    for seed in config.seeds:
        files = folder.reference("untrained", seed)
        drawn = torch.Generator().manual_seed(50 + seed)
        save_fake(files.model, backbone_seed, build_head("linear", WIDTH, OUT, generator=drawn))
        ReferenceRecord(
            name="untrained", description="linear, untrained", seed=seed, weights_hash=weights_hash(files.model)
        ).write(files.reference_json)


@pytest.fixture
def fake_host(monkeypatch):
    def create(backbone, head, settings, *, device="cpu", seed=0):
        return FakeModel(7, head)

    host = SimpleNamespace(load=load_fake, create=create, backbone_width=lambda backbone, options=None: WIDTH)
    monkeypatch.setattr("eval.embed.load_host", lambda name: host)
    monkeypatch.setattr("eval.subjects.load_host", lambda name: host)
    monkeypatch.setattr("eval.planned.load_host", lambda name: host)
    monkeypatch.setattr(FakeModel, "calls", 0)
    return FakeModel


@pytest.fixture
def retrain():
    """Write an experiment's folder as training would."""
    return train_fake


@pytest.fixture
def miniature(tmp_path, fake_host):
    """Two variants with two seeds each, on a frozen backbone."""
    write_collection(tmp_path / "odd")
    yaml = tmp_path / "mini.yaml"
    yaml.write_text(
        f"""
output: {tmp_path / "outputs" / "mini"}
cache: {tmp_path / "outputs" / ".cache"}
seeds: [0, 1]
heads:
  out_features: {OUT}
  init: torch
  variants: [linear, 'ffn(activation="gelu")']
train:
  data: {tmp_path / "odd"}
sweep: {{}}
eval:
  datasets: [{tmp_path / "odd"}]
  depth: 20
  measures: [nDCG@10, R@20, RR@10]
""",
        encoding="utf-8",
    )
    config = load_config(yaml)
    train_fake(config)
    return Miniature(yaml, ExperimentFolder(config.output), tmp_path / "odd")
