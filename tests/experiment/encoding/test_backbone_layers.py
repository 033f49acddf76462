"""A head that reads one of the backbone's lower layers."""

import numpy as np
import pytest
import torch

from experiment.config import ModelConfig
from experiment.encoding.backbone_layers import create_model
from projheads import ProjheadsError, build_head
from projheads.hosts import load_host

TEXTS = ["the cat sat on the mat", "paris"]


def head():
    return build_head("linear", 32, 8)


def test_the_head_reads_that_layer_and_the_saved_model_has_no_other(backbone, tmp_path):
    host = load_host("auto")
    config = ModelConfig(backbone=str(backbone), query_length=12, document_length=24)
    full = create_model(host, config, head())
    cut = create_model(host, config.model_copy(update={"layer": 1}), head())
    tokens = full.tokenize(TEXTS, is_query=False)
    encoder = next(
        module for module in full.native.modules() if hasattr(module, "config") and hasattr(module, "encoder")
    )
    seen = []
    encoder.encoder.layer[0].register_forward_hook(lambda module, arguments, output: seen.append(output))
    with torch.no_grad():
        full.token_states(tokens)
        states = cut.token_states(tokens)
    expected = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    torch.testing.assert_close(states, expected)
    assert len(list(cut.backbone_parameters())) < len(list(full.backbone_parameters()))
    cut.save(tmp_path / "model")
    again = host.load(str(tmp_path / "model"))
    for one, other in zip(again.encode(TEXTS, is_query=False), cut.encode(TEXTS, is_query=False), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert len(list(again.backbone_parameters())) == len(list(cut.backbone_parameters()))


def test_a_layer_that_does_not_exist_is_one_line(backbone):
    with pytest.raises(ProjheadsError, match=r"model\.layer: 3 is above the last of the backbone's 2 layers"):
        create_model(load_host("auto"), ModelConfig(backbone=str(backbone), layer=3), head())


def test_the_last_layer_is_not_part_of_a_key():
    assert "layer" not in ModelConfig().key_values()
    assert ModelConfig(layer=1).key_values()["layer"] == 1
