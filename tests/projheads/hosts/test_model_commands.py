"""python -m projheads fold | export | swap on a checkpoint, as a person calls them."""

import json

import numpy as np
import pytest
import torch

from projheads import build_head
from projheads.__main__ import main
from projheads.errors import ProjheadsError
from projheads.hosts.base import EncodingSettings, OpenOptions

TEXTS = ["what is the capital of france", "a cat; a dog, a bird!", "rain"]


@pytest.fixture
def checkpoint(host, backbone, tmp_path):
    model = host.create(
        str(backbone), build_head("lateon", 32, 8), EncodingSettings(query_length=8, document_length=16)
    )
    model.save(tmp_path / "model")
    return str(tmp_path / "model"), model


def test_fold(checkpoint, tmp_path, capsys):
    folder, _ = checkpoint
    assert main(["fold", folder, str(tmp_path / "folded")]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"written: {tmp_path / 'folded'}\n")
    assert "opens in     pylate, sentence-transformers" in text
    assert main(["fold", folder, str(tmp_path / "folded")]) == 2
    printed = capsys.readouterr()
    assert (
        printed.err == f"error: {tmp_path / 'folded'}: already exists; choose a different folder or delete it first\n"
    )
    assert printed.out == ""


def test_export(checkpoint, tmp_path, capsys):
    folder, _ = checkpoint
    assert main(["export", folder, str(tmp_path / "out"), "--to", "stanford", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["form"], made["head"], made["replacement"]) == ("stanford", "lateon", "one matrix")
    assert made["parameters"][1] == 32 * 8
    assert main(["export", folder, str(tmp_path / "other"), "--to", "onxx"]) == 2
    assert 'unknown form "onxx"; known: dense-chain, onnx, stanford; did you mean "onnx"?' in capsys.readouterr().err


def test_swap_keeps_the_embeddings(checkpoint, host, tmp_path, capsys):
    folder, model = checkpoint
    assert main(["swap", folder, "upscaled(residual=true)", str(tmp_path / "swapped"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"] < 1e-5
    swapped = host.load(str(tmp_path / "swapped"))
    assert str(swapped.head.spec) == "upscaled(residual=true)"
    for a, b in zip(model.encode(TEXTS, is_query=False), swapped.encode(TEXTS, is_query=False), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_swap_from_data(checkpoint, tmp_path, capsys):
    folder, _ = checkpoint
    arguments = ["swap", folder, "linear", str(tmp_path / "swapped"), "--init", "pca"]
    assert main(arguments) == 2
    assert "pca" in capsys.readouterr().err
    assert not (tmp_path / "swapped").exists()
    (tmp_path / "texts.txt").write_text("\n".join(f"{text} {word}" for text in TEXTS for word in ("cat", "sun", "mat")))
    assert main([*arguments, "--texts", str(tmp_path / "texts.txt")]) == 0
    assert main([*arguments, "--texts", str(tmp_path / "none.txt")]) == 2
    assert "none.txt: cannot be read" in capsys.readouterr().err


def test_swap_says_why_a_head_cannot_start_from_the_old_one(checkpoint, tmp_path, capsys):
    folder, _ = checkpoint
    assert main(["swap", folder, 'linear(activation="tanh")', str(tmp_path / "out")]) == 2
    assert "the activation tanh follows the matrix" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spec", ["ffn(activation=gelu)", "linear"])
def test_a_soup_has_the_mean_of_the_weights_and_the_first_models_backbone(host, backbone, tmp_path, capsys, spec):
    settings = EncodingSettings(query_length=8, document_length=16)
    states = []
    for seed in range(3):
        head = build_head(spec, 32, 8, generator=torch.Generator().manual_seed(seed))
        host.create(str(backbone), head, settings).save(tmp_path / f"seed-{seed}")
        states.append({name: tensor.clone() for name, tensor in head.state_dict().items()})
    models = [str(tmp_path / f"seed-{seed}") for seed in range(3)]
    assert main(["soup", *models, str(tmp_path / "soup"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["replacement"] == "the average of 3 heads"
    soup = host.load(str(tmp_path / "soup"))
    for name, tensor in soup.head.state_dict().items():
        torch.testing.assert_close(tensor, sum(one[name] for one in states) / 3)
    head = build_head(spec, 32, 8)
    head.load_state_dict(soup.head.state_dict())
    expected = host.create(str(backbone), head, settings).encode(TEXTS, is_query=False)
    for a, b in zip(expected, soup.encode(TEXTS, is_query=False), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_soup_opens_its_models_with_the_given_options(monkeypatch, tmp_path, capsys):
    seen = []

    def refuse(model, options):
        seen.append(options)
        raise ProjheadsError("refused")

    monkeypatch.setattr("projheads.export.soup.open_source", refuse)
    assert main(["soup", "--revision", "v2", "--trust-remote-code", "a", "b", str(tmp_path / "out")]) == 2
    assert "refused" in capsys.readouterr().err
    assert seen == [OpenOptions("v2", trust_remote_code=True)]


def test_models_that_cannot_be_averaged_are_one_line(host, backbone, tmp_path, capsys):
    settings = EncodingSettings(query_length=8, document_length=16)
    for name, spec in (("a", "linear"), ("b", "ffn(activation=gelu)"), ("c", "linear")):
        model = host.create(str(backbone), build_head(spec, 32, 8), settings)
        if name == "c":
            next(iter(model.backbone_parameters())).data.add_(1)
        model.save(tmp_path / name)
    one, other, trained, out = (str(tmp_path / name) for name in ("a", "b", "c", "out"))
    for models, line in (
        ([one], "a soup needs at least two models, got 1"),
        ([one, other], f'{other}: has the head ffn(activation="gelu"), not linear of {one}'),
        ([one, trained], f"{trained}: has a different backbone from {one}; only heads are averaged"),
    ):
        assert main(["soup", *models, out]) == 2
        assert capsys.readouterr().err == f"error: {line}\n"
    assert not (tmp_path / "out").exists()
