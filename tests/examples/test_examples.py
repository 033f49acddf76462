"""Every program of examples/, run unchanged with a tiny random model."""

import importlib.util
import json
import runpy
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from projheads.hosts import available_hosts
from tests.examples.test_deploy import DEPLOYED

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDS = {
    "train_pylate": "pylate",
    "upgrade_pylate": "pylate",
    "upgrade_stanford": "pylate",  # colbert-ai lives in PyLate's environment
    "train_sentence_transformers": "sentence-transformers",
    "upgrade_sentence_transformers": "sentence-transformers",
    "upgrade_colpali": None,
}
TEXTS = ["the cat sat on the mat", "rain"]


def run(name, *arguments):
    if NEEDS[name] not in (None, *available_hosts()):
        pytest.skip(f"{NEEDS[name]} is not installed here")
    main = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]
    main(*map(str, arguments))


@pytest.fixture
def stanford(backbone, tmp_path):
    """A checkpoint in Stanford's layout."""
    folder = tmp_path / "stanford"
    folder.mkdir()
    for file in backbone.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((backbone / "config.json").read_text()) | {"architectures": ["HF_ColBERT"]}
    (folder / "config.json").write_text(json.dumps(config))
    weights = {f"bert.{name}": tensor for name, tensor in load_file(backbone / "model.safetensors").items()}
    weights["linear.weight"] = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    metadata = {
        "query_token_id": "[unused0]",
        "doc_token_id": "[unused1]",
        "query_maxlen": 8,
        "doc_maxlen": 24,
        "dim": 8,
    }
    (folder / "artifact.metadata").write_text(json.dumps(metadata))
    return folder


def change(printed):
    """Read how far the embeddings moved off what an example prints."""
    return float(printed.split("change by ")[1].split(";")[0])


def test_each_is_short_and_tried_here():
    deploy = {"decide", *(f"deploy_{host}" for host in DEPLOYED)}  # see test_deploy.py
    assert {file.stem for file in EXAMPLES.glob("*.py")} == {*NEEDS, *deploy}
    for file in EXAMPLES.glob("*.py"):
        assert len(file.read_text().splitlines()) < (70 if file.stem in deploy else 40), file


def test_upgrade_pylate(stanford, tmp_path, capsys):
    torch.manual_seed(0)  # PyLate draws the embeddings of its two prefix tokens, which this tiny vocabulary lacks
    run("upgrade_pylate", stanford, tmp_path / "out")
    assert change(capsys.readouterr().out) < 1e-5
    from pylate.models import ColBERT

    torch.manual_seed(0)
    old, new = (
        ColBERT(str(folder), device="cpu").encode(TEXTS, is_query=True) for folder in (stanford, tmp_path / "out")
    )
    for a, b in zip(old, new, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_upgrade_sentence_transformers(stanford, tmp_path, capsys):
    run("upgrade_sentence_transformers", stanford, tmp_path / "out")
    assert change(capsys.readouterr().out) < 1e-5


def test_upgrade_stanford(stanford, tmp_path, capsys, monkeypatch):
    pytest.importorskip("colbert")
    # colbert-ai 0.2.22 was written for transformers 4; this is all that transformers 5 also needs of its class.
    monkeypatch.setattr(transformers.PreTrainedModel, "all_tied_weights_keys", {}, raising=False)
    from colbert.modeling.colbert import ColBERT

    monkeypatch.setattr(ColBERT, "loaded_extensions", True, raising=False)  # C++ that it would compile for its search
    run("upgrade_stanford", stanford, tmp_path / "out")
    assert change(capsys.readouterr().out) < 1e-5
    before = load_file(stanford / "model.safetensors")["linear.weight"]
    after = load_file(tmp_path / "out" / "model.safetensors")["linear.weight"]
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(unit(after.flatten(), dim=0), unit(before.flatten(), dim=0), rtol=0, atol=1e-5)


class ColQwen2(nn.Module):
    """What a model of colpali-engine is to a head: token states, `custom_text_proj`, L2 normalisation, the mask."""

    def __init__(self):
        super().__init__()
        self.embeddings = nn.Embedding(16, 32)
        self.custom_text_proj = nn.Linear(32, 8)

    @classmethod
    def from_pretrained(cls, name, **options):
        torch.manual_seed(0)
        return cls()

    def forward(self, input_ids, attention_mask):
        projected = self.custom_text_proj(self.embeddings(input_ids))
        return projected / projected.norm(dim=-1, keepdim=True) * attention_mask.unsqueeze(-1)

    def save_pretrained(self, folder):
        Path(folder).mkdir()
        save_file(self.state_dict(), Path(folder) / "model.safetensors")


def tiny_colqwen2(folder):
    """Save a ColQwen2 of colpali-engine's own, tiny and random."""
    from colpali_engine.models import ColQwen2 as Real
    from transformers import Qwen2VLConfig

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    text = sizes | {
        "intermediate_size": 64,
        "vocab_size": 64,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    }
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    model = Real(Qwen2VLConfig(text_config=text, vision_config=vision))
    nn.init.normal_(model.custom_text_proj.bias)  # as a trained one's; a head without bias folds to a layer without
    model.save_pretrained(folder)


def test_upgrade_colpali(tmp_path, capsys, monkeypatch):
    if importlib.util.find_spec("colpali_engine"):
        tiny_colqwen2(tmp_path / "model")
    else:
        engine, stand_in = ModuleType("colpali_engine"), ModuleType("colpali_engine.models")
        stand_in.ColQwen2 = ColQwen2
        monkeypatch.setitem(sys.modules, "colpali_engine", engine)
        monkeypatch.setitem(sys.modules, "colpali_engine.models", stand_in)
    run("upgrade_colpali", tmp_path / "model", tmp_path / "out")
    assert change(capsys.readouterr().out) < 1e-5
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert {name.rpartition("custom_text_proj.")[2] for name in saved if "custom_text_proj" in name} == {
        "weight",
        "bias",
    }


@pytest.mark.parametrize("host", ["pylate", "sentence_transformers"])
def test_train(host, backbone, tmp_path):
    run(f"train_{host}", backbone, tmp_path / "out")
    from projheads.hosts import load_host

    model = load_host(host.replace("_", "-")).load(str(tmp_path / "out"))
    assert str(model.head.spec) == "upscaled(residual=true)"
    from projheads import build_head

    started_from = build_head("upscaled(residual=true)", 32, 128).state_dict()
    moved = [name for name, tensor in model.head.state_dict().items() if not torch.equal(tensor, started_from[name])]
    assert moved == list(started_from)


@pytest.mark.parametrize("host", ["pylate", "sentence_transformers"])
def test_trains_on_the_tokens_that_are_encoded(host, backbone, tmp_path, monkeypatch):
    if host.replace("_", "-") not in available_hosts():
        pytest.skip(f"{host} is not installed here")
    import sentence_transformers

    from projheads.hosts import load_host

    name = "SentenceTransformerTrainer" if host == "pylate" else "MultiVectorEncoderTrainer"
    seen = {}

    def keep_a_batch(trainer):
        trainer.args.dataloader_pin_memory = False
        seen["model"], seen["batch"] = trainer.model, next(iter(trainer.get_train_dataloader()))
        seen["texts"] = trainer.train_dataset

    monkeypatch.setattr(getattr(sentence_transformers, name), "train", keep_a_batch)
    run(f"train_{host}", backbone, tmp_path / "out")
    adapter = load_host(host.replace("_", "-"))
    model = getattr(adapter, "PylateModel" if host == "pylate" else "SentenceTransformersModel")(seen["model"])
    for column in ("query", "positive", "negative"):
        ids, mask = (seen["batch"][f"{column}_{what}"] for what in ("input_ids", "attention_mask"))
        trained = {tuple(row[kept.bool()].tolist()) for row, kept in zip(ids, mask, strict=True)}
        tokens = model.tokenize(list(seen["texts"][column]), is_query=column == "query")
        pairs = zip(tokens["input_ids"], tokens["attention_mask"], strict=True)
        assert trained == {tuple(row[kept.bool()].tolist()) for row, kept in pairs}
