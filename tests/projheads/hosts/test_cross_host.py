"""A checkpoint of one host in the other: the same weights, tokens and embeddings, and where they part.

The hosts share no environment. Most tests rewrite a checkpoint's files as the other host writes them and so need one;
those at the end open real checkpoints in a second environment, where `make test` has set that up.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from projheads import ProjheadsError, build_head
from projheads.export import export_model, fold_model
from projheads.hosts import available_hosts, load_host
from projheads.hosts.base import EncodingSettings
from projheads.hosts.model_folder import read_settings, written_by

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("encode_models.py")
GOLDEN = Path(__file__).with_name("golden")
TEXTS = [
    "What is the capital of France?",
    "a cat; a dog, a bird!",
    "",
    "[Q] the cat [MASK] sat",
    "naïve 東京",
    ("the cat sat on the mat " * 12).strip(),
]
PADDED = ["cat ", " cat", "   ", "\tthe cat\n"]
SETTINGS = {
    "default": EncodingSettings(query_length=12, document_length=24),
    "no-expansion": EncodingSettings(query_length=12, document_length=24, query_expansion=False),
    "attended": EncodingSettings(query_length=12, document_length=24, attend_to_expansion_tokens=True),
    "no-prefix": EncodingSettings(query_length=9, document_length=15, query_prefix="", document_prefix=""),
    "own-skiplist": EncodingSettings(query_length=12, document_length=24, skiplist=("cat", ".")),
    "no-skiplist": EncodingSettings(query_length=12, document_length=24, skiplist=()),
}


def make(host, backbone, folder, settings, spec='ffn(activation="gelu")'):
    head = build_head(spec, 32, 8, generator=torch.Generator().manual_seed(1))
    model = host.create(str(backbone), head, settings)
    model.native.save(str(folder), create_model_card=False)  # as the host's own trainer saves it
    return model


def as_the_other_host_writes(folder, settings):
    """Rewrite a checkpoint's own files; those of the weights and the tokenizer stay."""
    writer = written_by(folder)
    other = "sentence-transformers" if writer == "pylate" else "pylate"
    shutil.copy(GOLDEN / f"{other}.json", folder / "modules.json")
    if other == "pylate":
        config = {
            "model_type": "ColBERT", "prompts": {"query": "", "document": ""}, "similarity_fn_name": "MaxSim",
            "query_prefix": settings.query_prefix, "document_prefix": settings.document_prefix,
            "query_length": settings.query_length, "document_length": settings.document_length,
            "attend_to_expansion_tokens": settings.attend_to_expansion_tokens,
            "skiplist_words": None if settings.skiplist is None else list(settings.skiplist),
            "do_query_expansion": settings.query_expansion,
        }  # fmt: skip
        transformer = {"max_seq_length": settings.document_length, "do_lower_case": False}
    else:
        prompts = {"document": settings.document_prefix, "query": settings.query_prefix}
        config = {"model_type": "MultiVectorEncoder", "prompts": prompts, "similarity_fn_name": "maxsim"}
        expansion = {
            "strategy": "fixed", "attend": settings.attend_to_expansion_tokens, "token": None,
            "length": settings.query_length,
        }  # fmt: skip
        text = {"method": "forward", "method_output_name": "last_hidden_state"}
        transformer = {
            "transformer_task": "feature-extraction", "modality_config": {"text": text},
            "module_output_name": "token_embeddings", "document_length": settings.document_length,
            "query_length": None if settings.query_expansion else settings.query_length,
            "query_expansion": expansion if settings.query_expansion else None,
        }  # fmt: skip
        (folder / "2_MultiVectorMask").mkdir()
        skiplist = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") if settings.skiplist is None else list(settings.skiplist)
        mask = {"skiplist_words": skiplist, "skiplist_tasks": ["document"], "keep_only_token_ids": None}
        (folder / "2_MultiVectorMask" / "config.json").write_text(json.dumps(mask))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    (folder / "sentence_bert_config.json").write_text(json.dumps(transformer))
    assert written_by(folder) == other


@pytest.mark.parametrize("name", SETTINGS)
def test_a_checkpoint_as_the_other_host_writes_it_gives_the_same_embeddings(host, backbone, tmp_path, name):
    settings = SETTINGS[name]
    model = make(host, backbone, tmp_path / "model", settings)
    as_the_other_host_writes(tmp_path / "model", settings)
    assert read_settings(tmp_path / "model").query_length == settings.query_length
    other = host.load(str(tmp_path / "model"))
    assert other.head.spec == model.head.spec
    for is_query in (True, False):
        for a, b in zip(model.encode(TEXTS, is_query=is_query), other.encode(TEXTS, is_query=is_query), strict=True):
            np.testing.assert_array_equal(a, b)


def test_auto_takes_the_host_that_wrote_the_checkpoint(host, backbone, tmp_path, monkeypatch):
    make(host, backbone, tmp_path / "model", SETTINGS["default"])
    writer = written_by(tmp_path / "model")
    assert load_host("auto", model_folder=tmp_path / "model") is host
    monkeypatch.setattr("projheads.hosts.available_hosts", lambda: ["sentence-transformers", "pylate"])
    for module in ("pylate", "sentence_transformers"):
        monkeypatch.setitem(sys.modules, f"projheads.hosts.{module}", module)
        monkeypatch.setattr(f"projheads.hosts.{module}", module, raising=False)
    assert load_host("auto", model_folder=tmp_path / "model") == writer.replace("-", "_")
    assert load_host("auto", model_folder=backbone) == "sentence_transformers", "the first one for unknown writers"


@pytest.mark.parametrize(
    "change, said",
    [
        ({"prompts": {"query": "query: ", "document": ""}}, 'has the prompt "query: ", which is not a single token'),
        ({"prompts": {"query": "", "code": ""}}, "has a prompt that is not for queries or documents"),
    ],
)
def test_what_only_sentence_transformers_can_do_is_named(backbone, host, tmp_path, change, said):
    make(host, backbone, tmp_path / "model", SETTINGS["default"])
    if written_by(tmp_path / "model") == "pylate":
        as_the_other_host_writes(tmp_path / "model", SETTINGS["default"])
    file = tmp_path / "model" / "config_sentence_transformers.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ProjheadsError) as error:
        read_settings(tmp_path / "model")
    assert said in str(error.value)


OTHER = {"pylate": ".venv-st", "sentence-transformers": ".venv"}


@pytest.fixture(scope="module")
def there(tmp_path_factory, backbone, byte_backbone):
    """Checkpoints made here, opened and encoded in the environment of the other host."""
    if not available_hosts():
        pytest.skip("no host is installed")
    name = available_hosts()[0]
    python = ROOT / OTHER[name] / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{OTHER[name]} is not there; make test-sentence-transformers sets it up")
    folder, host, models = tmp_path_factory.mktemp("checkpoints"), load_host(name), {}
    for case, settings in SETTINGS.items():
        models[case] = make(host, backbone, folder / case, settings)
    models["bytes"] = make(host, byte_backbone, folder / "bytes", SETTINGS["default"])
    linear = make(host, backbone, folder / "linear", SETTINGS["default"], spec="lateon")
    fold_model(str(folder / "linear"), folder / "folded")
    export_model(str(folder / "default"), folder / "chain", to="dense-chain")
    models |= {"folded": linear, "chain": models["default"]}
    job = {"texts": [*TEXTS, *PADDED], "checkpoints": [str(folder / case) for case in models]}
    (folder / "job.json").write_text(json.dumps(job))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([python, SCRIPT, folder / "job.json"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    other = "sentence_transformers" if name == "pylate" else "pylate"
    return {case: (model, np.load(folder / f"{case}.{other}.npz")) for case, model in models.items()}


def compared(case, what):
    """Pair what this host gives with what the other gave, text by text."""
    model, other = case
    texts = [*TEXTS, *PADDED]
    for side in ("query", "document"):
        is_query = side == "query"
        tokens = model.tokenize(texts, is_query=is_query)
        used = tokens["attention_mask"].bool() | model.scoring_mask(tokens, is_query=is_query)
        mine = [ids[mask].numpy() for ids, mask in zip(tokens["input_ids"], used, strict=True)]
        mine = mine if what == "ids" else model.encode(texts, is_query=is_query)
        for number, text in enumerate(texts):
            yield text, mine[number], other[f"{side} {number} {what}"]


@pytest.mark.parametrize("case", SETTINGS)
def test_the_other_host_makes_the_same_tokens_and_embeddings(there, case):
    for text, here, other in compared(there[case], "ids"):
        assert here.tolist() == other.tolist(), text
    for _, here, other in compared(there[case], "adapter"):
        np.testing.assert_allclose(here, other, atol=1e-5)


@pytest.mark.parametrize("case", ["folded", "chain"])
def test_stock_checkpoints_open_in_the_plain_other_host(there, case):
    for what in ("adapter", "plain"):
        for _, here, other in compared(there[case], what):
            np.testing.assert_allclose(here, other, atol=1e-5)


def test_white_space_at_the_ends_of_a_text_is_where_the_hosts_part(there):
    """PyLate strips texts, sentence-transformers does not: it shows with tokenizers that keep white space, as BPE's."""
    same = {text for text, here, other in compared(there["bytes"], "ids") if here.tolist() == other.tolist()}
    assert same == set(TEXTS)
    for text, here, other in compared(there["bytes"], "adapter"):
        if text in same:
            np.testing.assert_allclose(here, other, atol=1e-5)


def test_a_model_that_loses_its_prefix_in_one_host_opens_only_there(host, backbone, tmp_path):
    make(host, backbone, tmp_path / "model", SETTINGS["default"])
    file = tmp_path / "model" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"truncation_side": "left"}))
    host.load(str(tmp_path / "model"))
    as_the_other_host_writes(tmp_path / "model", SETTINGS["default"])
    with pytest.raises(ProjheadsError, match="truncates the beginning of a text, where only sentence-transformers"):
        host.load(str(tmp_path / "model"))
