"""The host that wrote a checkpoint is recognised by its files."""

import json

import pytest

from projheads.build import build_head
from projheads.errors import ProjheadsError
from projheads.hosts import detect_host
from projheads.hosts.base import EncodingSettings


def checkpoint(folder, types=None, **files):
    folder.mkdir()
    if types:
        (folder / "modules.json").write_text(json.dumps([{"path": "", "type": kind} for kind in types]))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def both(monkeypatch):
    monkeypatch.setattr("projheads.hosts.available_hosts", lambda: ["pylate", "sentence-transformers"])


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(
    "types, files, host",
    [
        (["sentence_transformers.models.Transformer", "pylate.models.Dense.Dense"], {}, "pylate"),
        (["sentence_transformers.models.Transformer", "projheads.hosts.pylate.Projection"], {}, "pylate"),
        (
            [
                "sentence_transformers.base.modules.transformer.Transformer",
                "sentence_transformers.base.modules.dense.Dense",
                "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask",
            ],
            {},
            "sentence-transformers",
        ),
        (["a.Transformer", "projheads.hosts.sentence_transformers.Projection"], {}, "sentence-transformers"),
        (["a.Transformer", "a.Dense"], {"config_sentence_transformers": {"model_type": "ColBERT"}}, "pylate"),
        (
            ["a.Transformer", "a.Dense"],
            {"config_sentence_transformers": {"model_type": "MultiVectorEncoder"}},
            "sentence-transformers",
        ),
        (None, {"config": {"architectures": ["HF_ColBERT"]}}, "pylate"),
    ],
)
def test_the_writer_is_told_from_the_files(tmp_path, types, files, host):
    assert detect_host(checkpoint(tmp_path / "model", types, **files)) == host


def test_a_checkpoint_that_a_host_wrote_is_told(host, backbone, tmp_path):
    host.create(str(backbone), build_head("linear", 32, 8), EncodingSettings()).save(tmp_path / "model")
    assert detect_host(tmp_path / "model") == host.load(str(tmp_path / "model")).host


def test_without_pylate_its_checkpoints_are_opened_by_sentence_transformers(tmp_path, monkeypatch):
    monkeypatch.setattr("projheads.hosts.available_hosts", lambda: ["sentence-transformers"])
    model = checkpoint(tmp_path / "model", ["sentence_transformers.models.Transformer", "pylate.models.Dense.Dense"])
    assert detect_host(model) == "sentence-transformers"


@pytest.mark.parametrize(
    "types, files, line",
    [
        (["a.Transformer", "a.Pooling", "a.Normalize"], {}, "is a bi-encoder, with one vector per text"),
        (["a.Transformer", "a.Pooling", "a.Dense"], {"config_sentence_transformers": {}}, "is a bi-encoder"),
        (
            ["a.Transformer", "a.Dense"],
            {},
            "is not known to be multi-vector (Transformer, Dense); name its host with --host",
        ),
        (None, {"config": {"architectures": ["BertModel"]}}, "is a bare backbone without a projection"),
        (None, {}, "has neither modules.json nor config"),
    ],
)
def test_what_is_none_is_one_clear_line(tmp_path, types, files, line):
    with pytest.raises(ProjheadsError) as error:
        detect_host(checkpoint(tmp_path / "model", types, **files))
    assert line in str(error.value)
    assert "\n" not in str(error.value)
