"""A tiny random backbone with its own tokenizer, and every host that is installed."""

import json

import pytest
import torch

from projheads.hosts import available_hosts, load_host


@pytest.fixture(scope="session")
def pooled_backbone(backbone, tmp_path_factory):
    """The same backbone as old sentence-transformers wrote it: in a separate folder, followed by a pooling module."""
    folder = tmp_path_factory.mktemp("pooled")
    (folder / "0_Transformer").mkdir()
    for file in backbone.iterdir():
        (folder / "0_Transformer" / file.name).write_bytes(file.read_bytes())
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    modules = [
        {"idx": 0, "name": "0", "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


@pytest.fixture(scope="session")
def byte_backbone(tmp_path_factory):
    """A BERT with one layer of width 32 and a byte-level BPE tokenizer, to which white space matters."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("byte-backbone")
    special = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        special_tokens=special, vocab_size=300, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["the cat sat on the mat, what is the capital of france"] * 20, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    names = dict(zip(("cls_token", "pad_token", "sep_token", "unk_token", "mask_token"), special, strict=True))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=192, model_input_names=["input_ids", "attention_mask"], **names
    ).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer.get_vocab()),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=192,
        pad_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    return folder


class Plain:
    """A checkpoint opened by the host only, as a user without our adapter would."""

    def __init__(self, host, folder):
        if host == "pylate":
            from pylate.models import ColBERT

            self.native = ColBERT(str(folder), device="cpu")
        else:
            from sentence_transformers import MultiVectorEncoder

            self.native = MultiVectorEncoder(str(folder), device="cpu", trust_remote_code=True)
        self.host = host

    def encode(self, texts, *, is_query):
        if self.host == "pylate":
            return self.native.encode(texts, is_query=is_query, show_progress_bar=False)
        encode = self.native.encode_query if is_query else self.native.encode_document
        return encode(texts, convert_to_numpy=True)


@pytest.fixture(params=available_hosts())
def host(request):
    """The adapter of each host that is installed."""
    adapter = load_host(request.param)
    adapter.open_plain = lambda folder: Plain(request.param, folder)
    return adapter
