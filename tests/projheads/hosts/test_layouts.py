"""A layout that one command opens, every command opens; what is incomplete, none does."""

import numpy as np
import pytest
import torch

from projheads import ProjheadsError, build_head
from projheads.export import export_model, fold_model, swap_model
from projheads.hosts.base import EncodingSettings
from projheads.hosts.model_folder import read_head, read_settings, written_by

TEXTS = ["What is the capital of France?", "a cat; a dog, a bird!", "the cat sat on the mat " * 12]
SETTINGS = EncodingSettings(query_length=12, document_length=24, skiplist=())


@pytest.fixture
def model(host, backbone, tmp_path):
    head = build_head("linear", 32, 8, generator=torch.Generator().manual_seed(1))
    made = host.create(str(backbone), head, SETTINGS)
    made.save(tmp_path / "model")
    return made


def assert_near(first, second):
    for is_query in (True, False):
        for a, b in zip(first.encode(TEXTS, is_query=is_query), second.encode(TEXTS, is_query=is_query), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_stanfords_layout_is_read_as_it_was_written(host, model, tmp_path):
    export_model(str(tmp_path / "model"), tmp_path / "stanford", to="stanford")
    assert written_by(tmp_path / "stanford") == "stanford"
    assert read_settings(tmp_path / "stanford") == SETTINGS
    assert torch.equal(read_head(tmp_path / "stanford").linear.weight, model.head.linear.weight)
    opened = host.load(str(tmp_path / "stanford"))
    assert_near(model, opened)
    opened.save(tmp_path / "saved")
    assert_near(model, host.load(str(tmp_path / "saved")))


def test_stanfords_layout_can_be_swapped_and_then_exported(host, model, tmp_path):
    export_model(str(tmp_path / "model"), tmp_path / "stanford", to="stanford")
    swap_model(str(tmp_path / "stanford"), "lateon", tmp_path / "swapped")
    assert read_settings(tmp_path / "swapped") == SETTINGS
    assert_near(model, host.load(str(tmp_path / "swapped")))
    export_model(str(tmp_path / "swapped"), tmp_path / "again", to="stanford")
    assert_near(model, host.load(str(tmp_path / "again")))


@pytest.mark.parametrize("of_its_own", [False, True])
def test_other_forms_in_the_transformers_folder_are_left_out(host, model, tmp_path, of_its_own):
    folder = tmp_path / "model"
    if of_its_own:
        (folder / "0_Transformer").mkdir()
        for file in [file for file in folder.iterdir() if file.is_file() and file.name != "modules.json"]:
            if file.name != "config_sentence_transformers.json":
                file.rename(folder / "0_Transformer" / file.name)
        text = (folder / "modules.json").read_text()
        (folder / "modules.json").write_text(text.replace('"path": ""', '"path": "0_Transformer"', 1))
    place = folder / "0_Transformer" if of_its_own else folder
    (place / "onnx").mkdir()
    (place / "onnx" / "model.onnx").write_text("")
    fold_model(str(folder), tmp_path / "folded")
    export_model(str(folder), tmp_path / "chain", to="dense-chain")
    for out in (tmp_path / "folded", tmp_path / "chain"):
        assert not list(out.rglob("onnx"))
        assert_near(model, host.load(str(out)))


@pytest.mark.parametrize("what", ["config_sentence_transformers.json", "sentence_bert_config.json"])
def test_without_its_settings_a_model_opens_nowhere(host, model, tmp_path, what):
    (tmp_path / "model" / what).unlink()
    folder, out = str(tmp_path / "model"), tmp_path / "out"
    for opens in (
        lambda: host.load(folder),
        lambda: fold_model(folder, out),
        lambda: swap_model(folder, "linear", out),
        lambda: export_model(folder, out, to="onnx"),
    ):
        with pytest.raises(ProjheadsError, match=f"{what}: no such file; it says how texts become tokens"):
            opens()
    assert not out.exists()


def test_without_its_metadata_stanfords_layout_does_not_open(host, model, tmp_path):
    export_model(str(tmp_path / "model"), tmp_path / "stanford", to="stanford")
    (tmp_path / "stanford" / "artifact.metadata").unlink()
    with pytest.raises(ProjheadsError, match=r"artifact\.metadata: no such file"):
        host.load(str(tmp_path / "stanford"))
