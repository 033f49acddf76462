"""Backbones whose tokenizer or positions are unlike BERT's: the right embeddings on both hosts, or one line."""

import json
import shutil

import numpy as np
import pytest
import torch

from projheads import ProjheadsError, build_head
from projheads.hosts import available_hosts
from projheads.hosts.base import EncodingSettings

TEXTS = ["a cat sat on the mat !", "the dog 漢", "", "where is the red bird " * 9]
SETTINGS = EncodingSettings(query_length=12, document_length=16)
PLAIN = EncodingSettings(query_expansion=False, query_prefix="", document_prefix="")


@pytest.fixture
def retokenized(backbone, tmp_path):
    """Return a function that copies the backbone with changes to its tokenizer."""

    def make(sides=None, **changes):
        transformers = pytest.importorskip("transformers")
        folder = tmp_path / "backbone"
        shutil.copytree(backbone, folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        for name, value in changes.items():
            setattr(tokenizer, name, value)
        tokenizer.save_pretrained(folder)
        change_json(folder / "tokenizer_config.json", **(sides or {}))
        return str(folder)

    return make


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def create(host, backbone, settings=SETTINGS):
    return host.create(backbone, build_head("linear", 32, 8, generator=torch.Generator().manual_seed(0)), settings)


def assert_each_text_has_its_own_embedding(model):
    """A text has one embedding, whatever texts are encoded beside it."""
    for is_query in (True, False):
        together = model.encode(TEXTS, is_query=is_query)
        for text, embedded in zip(TEXTS, together, strict=True):
            (alone,) = model.encode([text], is_query=is_query)
            np.testing.assert_allclose(embedded, alone, atol=1e-6)


def test_left_padding_does_not_reach_the_embeddings(host, backbone, retokenized, tmp_path):
    model, usual = create(host, retokenized({"padding_side": "left"})), create(host, str(backbone))
    assert_each_text_has_its_own_embedding(model)
    model.save(tmp_path / "model")
    for opened in (host.load(str(tmp_path / "model")), host.open_plain(tmp_path / "model")):
        for is_query in (True, False):
            expected = usual.encode(TEXTS, is_query=is_query)
            assert all(map(np.array_equal, opened.encode(TEXTS, is_query=is_query), expected))


def test_a_saved_model_that_pads_on_the_left_is_read_without_it(host, backbone, tmp_path):
    create(host, str(backbone)).save(tmp_path / "model")
    change_json(tmp_path / "model" / "tokenizer_config.json", padding_side="left")
    assert_each_text_has_its_own_embedding(host.load(str(tmp_path / "model")))


def test_long_texts_lose_their_end(host, backbone, retokenized):
    model, usual = create(host, retokenized({"truncation_side": "left"})), create(host, str(backbone))
    for is_query in (True, False):
        expected = usual.encode(TEXTS, is_query=is_query)
        assert all(map(np.array_equal, model.encode(TEXTS, is_query=is_query), expected))


def test_without_a_mask_token_queries_are_expanded_with_the_end_or_not_at_all(host, retokenized, tmp_path):
    backbone = retokenized(mask_token=None)
    with pytest.raises(ProjheadsError, match=r"has no mask token to expand queries with; use query_expansion: false"):
        create(host, backbone)
    assert_each_text_has_its_own_embedding(create(host, backbone, EncodingSettings(query_expansion=False)))


def test_the_end_of_a_text_stands_in_for_the_mask(host, retokenized):
    model = create(host, retokenized(mask_token=None, eos_token="[SEP]"))
    tokens = model.tokenize(["cat"], is_query=True)["input_ids"][0]
    end = model.native.tokenizer.convert_tokens_to_ids("[SEP]")
    assert tokens[3:].tolist() == [end] * 9


@pytest.mark.parametrize("missing", [["pad_token"], ["pad_token", "mask_token"]])
def test_without_a_padding_token_any_other_pads(host, backbone, retokenized, tmp_path, missing):
    settings = EncodingSettings(query_length=12, document_length=16, query_expansion="mask_token" not in missing)
    model = create(host, retokenized(**dict.fromkeys(missing)), settings)
    usual = create(host, str(backbone), settings)
    model.save(tmp_path / "model")
    for opened in (model, host.load(str(tmp_path / "model")), host.open_plain(tmp_path / "model")):
        for is_query in (True, False):
            for ours, theirs in zip(
                opened.encode(TEXTS, is_query=is_query), usual.encode(TEXTS, is_query=is_query), strict=True
            ):
                np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.fixture
def bare_backbone(retokenized):
    """The backbone with a tokenizer that adds no special tokens."""
    tokenizers = pytest.importorskip("tokenizers")
    folder = retokenized()
    tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    tokenizer.save(f"{folder}/tokenizer.json")
    return folder


def test_a_prefix_comes_before_the_text(host, bare_backbone):
    if available_hosts()[0] == "pylate":
        with pytest.raises(ProjheadsError, match=r"PyLate would insert the prefix after the first word; use"):
            create(host, bare_backbone)
    else:
        model = create(host, bare_backbone)
        ids = model.tokenize(["cat"], is_query=False)["input_ids"][0].tolist()
        assert model.native.tokenizer.convert_ids_to_tokens(ids) == ["[D] ", "cat"]


def test_a_text_without_a_token_has_no_embedding(host, bare_backbone):
    model = create(host, bare_backbone, PLAIN)
    tokens = model.tokenize(["", ""], is_query=False)
    assert model.token_states(tokens).shape == (2, 0, 32)
    assert [rows.shape for rows in model.encode(["", "cat"], is_query=False)] == [(0, 8), (1, 8)]


def test_words_outside_the_vocabulary_skip_nothing(host, backbone, tmp_path):
    settings = EncodingSettings(query_length=12, document_length=16, skiplist=("zebra", "cat", "漢字"))
    model = create(host, str(backbone), settings)
    model.save(tmp_path / "model")
    for opened in (model, host.load(str(tmp_path / "model"))):
        tokens = opened.tokenize(["the cat 漢 sat"], is_query=False)
        kept = opened.scoring_mask(tokens, is_query=False)[0]
        words = opened.native.tokenizer.convert_ids_to_tokens(tokens["input_ids"][0])
        assert [word for word, keep in zip(words, kept, strict=True) if not keep] == ["cat"]
        assert "[UNK]" in words
    assert len(host.open_plain(tmp_path / "model").encode(["the cat 漢 sat"], is_query=False)[0]) == len(words) - 1


def test_a_saved_skiplist_that_skips_the_unknown_token_is_mended(host, backbone, tmp_path):
    create(host, str(backbone)).save(tmp_path / "model")
    for file in (tmp_path / "model").rglob("config*.json"):
        if "skiplist_words" in file.read_text():
            change_json(file, skiplist_words=["cat", "zebra"])
    (embedded,) = host.load(str(tmp_path / "model")).encode(["the cat 漢 sat"], is_query=False)
    assert len(embedded) == 6  # [CLS], the prefix, the, [UNK], sat and [SEP]


@pytest.mark.parametrize("family, rows", [("roberta", 34), ("mpnet", 34), ("bert", 32)])
def test_the_table_of_positions_is_read_as_the_model_reads_it(host, backbone, tmp_path, family, rows):
    transformers = pytest.importorskip("transformers")
    shutil.copytree(backbone, tmp_path / "backbone")
    size = len(transformers.AutoTokenizer.from_pretrained(backbone))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.AutoConfig.for_model(
        family, vocab_size=size, max_position_embeddings=rows, pad_token_id=1, **sizes
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "backbone")
    longest = EncodingSettings(query_length=32, document_length=32)
    model = create(host, str(tmp_path / "backbone"), longest)
    assert_each_text_has_its_own_embedding(model)
    assert len(model.encode(["red " * 90], is_query=False)[0]) == 32
    with pytest.raises(ProjheadsError, match="document_length=33 is beyond the 32 tokens that the backbone accepts"):
        create(host, str(tmp_path / "backbone"), EncodingSettings(query_length=32, document_length=33))
    model.save(tmp_path / "model")
    host.load(str(tmp_path / "model"))
    for file in (tmp_path / "model").glob("*.json"):
        if '"document_length": 32' in file.read_text():
            change_json(file, document_length=33)
    with pytest.raises(ProjheadsError, match="document_length=33 is beyond the 32 tokens"):
        host.load(str(tmp_path / "model"))


@pytest.mark.parametrize("saved", [torch.bfloat16, torch.float16])
def test_a_model_of_half_precision_opens_in_float32(host, backbone, tmp_path, saved):
    model = create(host, str(backbone))
    model.native.to(saved)
    model.save(tmp_path / "model")
    kept = host.load(str(tmp_path / "model"))
    assert {parameter.dtype for parameter in kept.native.parameters()} == {saved}
    assert kept.encode(TEXTS, is_query=False)[0].dtype == np.float32
    wide = host.load(str(tmp_path / "model"), dtype=torch.float32)
    model.native.float()
    for is_query in (True, False):
        expected = model.encode(TEXTS, is_query=is_query)
        assert all(map(np.array_equal, wide.encode(TEXTS, is_query=is_query), expected))
