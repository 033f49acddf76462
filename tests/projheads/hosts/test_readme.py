"""The snippet of the README that swaps a head, run unchanged on a tiny trained model."""

import re
from pathlib import Path

import numpy as np
import pytest

from projheads import build_head
from projheads.hosts import load_host
from projheads.hosts.base import EncodingSettings

README = Path(__file__).parents[3] / "README.md"
TEXTS = ["the cat sat on a mat", "what is red?"]


def test_the_snippet_that_swaps_a_head(backbone, tmp_path, monkeypatch):
    pytest.importorskip("pylate")
    section = README.read_text(encoding="utf-8").partition("## Use a head in your own code")[2]
    snippet = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    host = load_host("pylate")
    model = host.create(
        str(backbone), build_head("linear", 32, 8), EncodingSettings(query_length=12, document_length=24)
    )
    folder = re.search(r'ColBERT\("(.*?)"\)', snippet)[1]
    model.save(tmp_path / "trained")
    snippet = snippet.replace(folder, "trained")
    names = {}
    exec(compile(snippet, str(README), "exec"), names)
    assert str(names["head"].spec) == "lateon"
    assert names["layer"].weight.shape == (8, 32)
    assert {type(module).__module__.split(".")[0] for module in names["model"]} == {"sentence_transformers", "pylate"}
    swapped = host.PylateModel(names["model"])
    for ours, theirs in zip(swapped.encode(TEXTS, is_query=False), model.encode(TEXTS, is_query=False), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
