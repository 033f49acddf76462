"""The token store against a model so small that every vector can be computed one text at a time."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import experiment.encoding.windows as windows_module
from experiment.encoding.tokens import encode_tokens, text_key
from projheads.errors import ProjheadsError

TEXTS = [
    "alpha beta",
    "",
    "gamma , delta . epsilon zeta",
    "eta",
    "one two three four five six seven eight nine ten eleven twelve",
    "theta ; iota",
    "eta",
]


class FakeModel:
    """Words become rows of a fixed table; a row looks one word back, so a wrong order or cut would show."""

    host = "fake"
    in_features = 6
    out_features = 4
    length = 8

    def __init__(self, scale: float = 1.0):
        generator = torch.Generator().manual_seed(7)
        self.native = nn.Module()
        self.native.table = nn.Embedding(64, 6)
        self.native.dropout = nn.Dropout(0.5)
        self.native.table.weight.data = scale * torch.randn(64, 6, generator=generator)
        self.head = nn.Linear(6, 4, bias=False)
        self.head.weight.data = torch.randn(4, 6, generator=generator)
        self.batches: list[tuple[int, int]] = []

    @property
    def device(self):
        return torch.device("cpu")

    def tokenize(self, texts, *, is_query):
        words = [[3 + sum(word.encode()) % 60 for word in text.split()] for text in texts]
        ids = [[1, *row[: self.length - 2], 2] for row in words]
        width = self.length if is_query else max(map(len, ids))
        padded = torch.tensor([row + [0] * (width - len(row)) for row in ids])
        return {"input_ids": padded, "attention_mask": (padded != 0).long()}

    def count_truncated(self, texts, *, is_query):
        return sum(len(text.split()) + 2 > self.length for text in texts)

    def scoring_mask(self, tokens, *, is_query):
        ids = tokens["input_ids"]
        if is_query:
            return torch.ones_like(ids, dtype=torch.bool)
        commas = torch.tensor([3 + sum(mark.encode()) % 60 for mark in ",;."])
        return (ids != 0) & ~torch.isin(ids, commas)

    def token_states(self, tokens):
        self.batches.append(tuple(tokens["input_ids"].shape))
        states = self.native.table(tokens["input_ids"])
        before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)
        return self.native.dropout(states + 0.5 * before)

    def backbone_parameters(self):
        return self.native.parameters()


def one_by_one(model, texts, *, is_query):
    """The scoring tokens' states of each text, computed separately in evaluation mode."""
    model.native.eval()
    rows = []
    for text in texts:
        tokens = model.tokenize([text], is_query=is_query)
        mask = model.scoring_mask(tokens, is_query=is_query)[0]
        rows.append(model.token_states(tokens)[0][mask].detach().numpy())
    return rows


@pytest.fixture
def model():
    return FakeModel()


@pytest.mark.parametrize("is_query", [False, True])
@pytest.mark.parametrize("batch_tokens", [1, 16, 8192])
def test_states_are_those_of_each_text_alone_in_the_order_of_the_texts(model, is_query, batch_tokens):
    store = encode_tokens(model, TEXTS, is_query=is_query, project=False, dtype="float32", batch_tokens=batch_tokens)
    expected = one_by_one(model, TEXTS, is_query=is_query)
    assert len(store) == len(TEXTS)
    assert store.width == 6
    for text, rows in enumerate(expected):
        np.testing.assert_array_equal(store[text], rows)
    assert store.lengths.tolist() == [len(rows) for rows in expected]
    assert store.truncated == 1


def test_texts_that_are_truncated_are_counted_a_chunk_at_a_time(model, monkeypatch):
    counted = []

    def count_truncated(texts, *, is_query):
        counted.append(len(texts))
        return FakeModel.count_truncated(model, texts, is_query=is_query)

    model.count_truncated = count_truncated
    monkeypatch.setattr("experiment.encoding.tokens.CHUNK", 2)
    assert encode_tokens(model, 2 * TEXTS, is_query=False, project=False).truncated == 2
    assert sum(counted) == 2 * len(TEXTS)
    assert max(counted) == 2


def test_projected_vectors_are_the_normalised_output_of_the_head(model):
    store = encode_tokens(model, TEXTS, is_query=False, project=True, dtype="float32")
    rows = np.concatenate(one_by_one(model, TEXTS, is_query=False)).astype(np.float64)
    projected = rows @ model.head.weight.detach().numpy().astype(np.float64).T
    expected = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(store.vectors, expected, atol=1e-6)


def test_an_empty_text_keeps_its_special_tokens(model):
    store = encode_tokens(model, ["", "   "], is_query=False, project=False)
    assert store.lengths.tolist() == [2, 2]


def test_no_texts_give_an_empty_store(model, tmp_path):
    for folder in (None, tmp_path / "store", tmp_path / "store"):
        store = encode_tokens(model, [], is_query=False, project=False, folder=folder)
        assert (len(store), store.vectors.shape) == (0, (0, 6))


def test_batches_hold_no_more_tokens_than_asked_for(model):
    encode_tokens(model, TEXTS * 10, is_query=False, project=False, batch_tokens=20)
    assert all(rows * width <= 20 or rows == 1 for rows, width in model.batches)
    padding_free = sum(encode_tokens(model, TEXTS * 10, is_query=True, project=False).lengths)
    assert padding_free == 70 * model.length


@pytest.mark.parametrize("is_query", [False, True])
def test_canonical_batches_of_one_length_have_one_shape_and_the_same_states(model, is_query):
    model.length = 40
    texts = [" ".join(["word"] * count) for count in (*range(45), 3, 3, 60)]
    store = encode_tokens(
        model, texts, is_query=is_query, project=False, dtype="float32", canonical=True, batch_tokens=100
    )
    batches = set(model.batches)
    assert batches == ({(2, 40)} if is_query else {(6, 16), (3, 32), (2, 40)})
    for text, rows in enumerate(one_by_one(model, texts, is_query=is_query)):
        np.testing.assert_array_equal(store[text], rows)


def test_a_canonical_store_has_a_separate_key(model, tmp_path):
    for canonical in (False, True):
        model.batches.clear()
        encode_tokens(model, TEXTS, is_query=False, project=False, folder=tmp_path / "store", canonical=canonical)
        assert model.batches


def test_the_training_mode_of_every_module_is_put_back(model):
    model.native.train()
    model.native.table.eval()
    model.head.train()
    encode_tokens(model, TEXTS, is_query=False, project=True)
    assert model.native.training
    assert model.native.dropout.training
    assert not model.native.table.training
    assert model.head.training


def test_a_store_on_disk_is_that_in_memory_and_is_not_computed_again(model, tmp_path):
    arguments = {"is_query": False, "project": False, "key": "k"}
    in_memory = encode_tokens(model, TEXTS, **arguments)
    on_disk = encode_tokens(model, TEXTS, folder=tmp_path / "store", **arguments)
    assert isinstance(on_disk.vectors, np.memmap)
    assert on_disk.vectors.dtype == np.float16
    np.testing.assert_array_equal(on_disk.vectors, in_memory.vectors)
    np.testing.assert_array_equal(on_disk.offsets, in_memory.offsets)
    model.batches.clear()
    seen = []
    again = encode_tokens(model, TEXTS, folder=tmp_path / "store", progress=seen.append, **arguments)
    assert model.batches == []
    assert sum(seen) == len(TEXTS)
    assert again.truncated == in_memory.truncated == 1
    np.testing.assert_array_equal(again.vectors, in_memory.vectors)


@pytest.mark.parametrize("changed", [{"key": "other"}, {"precision": "bf16"}, {"project": True}, {"dtype": "float32"}])
def test_another_key_or_argument_makes_the_store_anew(model, tmp_path, changed):
    arguments = {"is_query": False, "project": False, "key": "k", "folder": tmp_path / "store"}
    encode_tokens(model, TEXTS, **arguments)
    model.batches.clear()
    encode_tokens(model, TEXTS, **arguments | changed)
    assert model.batches


def test_other_texts_make_the_store_anew(model, tmp_path):
    arguments = {"is_query": False, "project": False, "key": "k", "folder": tmp_path / "store"}
    encode_tokens(model, TEXTS, **arguments)
    store = encode_tokens(model, TEXTS[:3], **arguments)
    assert len(store) == 3
    np.testing.assert_array_equal(store.vectors, encode_tokens(model, TEXTS[:3], is_query=False, project=False).vectors)


def test_the_number_of_threads_changes_no_byte(model, threads, tmp_path):
    arguments = {"is_query": False, "project": True, "batch_tokens": 8}
    texts = [f"{text} {number}" for number in range(30) for text in TEXTS]
    seen = []
    store = encode_tokens(model, texts, folder=tmp_path, progress=seen.append, **arguments)
    assert sum(seen) == len(texts)
    torch.set_num_threads(1)
    alone = encode_tokens(model, texts, **arguments)
    assert store.vectors.tobytes() == alone.vectors.tobytes()
    np.testing.assert_array_equal(store.offsets, alone.offsets)


def test_an_error_in_a_thread_names_the_text_and_nothing_is_trusted(model, threads, tmp_path):
    texts = [f"{text} {number}" for number in range(30) for text in TEXTS]
    broken = FakeModel()
    broken.native.table.weight.data[3 + sum(b"theta") % 60] = torch.nan
    arguments = {"is_query": False, "project": False, "folder": tmp_path, "batch_tokens": 8}
    with pytest.raises(ProjheadsError, match=r"text \d+: a token vector is not finite"):
        encode_tokens(broken, texts, **arguments)
    whole = encode_tokens(model, texts, is_query=False, project=False)
    np.testing.assert_array_equal(encode_tokens(model, texts, **arguments).vectors, whole.vectors)


def test_progress_counts_every_text_once(model):
    seen = []
    encode_tokens(model, TEXTS, is_query=True, project=False, batch_tokens=8, progress=seen.append)
    assert sum(seen) == len(TEXTS)


@pytest.mark.parametrize("file, keep", [("vectors.bin", 10), ("lengths.bin", 3), ("store.json", 20)])
def test_a_damaged_store_is_made_anew(model, tmp_path, file, keep):
    arguments = {"is_query": False, "project": False, "folder": tmp_path / "store"}
    whole = encode_tokens(model, TEXTS, **arguments).vectors.copy()
    path = tmp_path / "store" / file
    path.write_bytes(path.read_bytes()[:keep])
    np.testing.assert_array_equal(encode_tokens(model, TEXTS, **arguments).vectors, whole)


def encode_until_killed(folder, after_batches):
    """Encode window by window and kill the process, as a power cut would, in the middle of one."""
    windows_module.WINDOW = 2
    model = FakeModel()
    real = model.token_states

    def killing(tokens):
        if len(model.batches) >= after_batches:  # More where other threads were quick.
            os.kill(os.getpid(), signal.SIGKILL)
        return real(tokens)

    model.token_states = killing
    encode_tokens(model, TEXTS, is_query=False, project=False, folder=folder, batch_tokens=1)


IN_A_NEW_PROCESS = """
import runpy, sys
from pathlib import Path
test, folder, after_batches = sys.argv[1:]
runpy.run_path(test)["encode_until_killed"](Path(folder), int(after_batches))
"""


@pytest.mark.parametrize("after_batches", [0, 3, 6])
def test_a_store_cut_off_by_a_kill_is_completed_with_the_same_bytes(tmp_path, monkeypatch, after_batches):
    monkeypatch.setattr(windows_module, "WINDOW", 2)
    folder = tmp_path / "store"
    command = [sys.executable, "-c", IN_A_NEW_PROCESS, __file__, str(folder), str(after_batches)]
    process = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    model = FakeModel()
    completed = encode_tokens(model, TEXTS, is_query=False, project=False, folder=folder, batch_tokens=1)
    assert len(model.batches) == len(TEXTS) - after_batches // 2 * 2
    whole = encode_tokens(FakeModel(), TEXTS, is_query=False, project=False, batch_tokens=1)
    np.testing.assert_array_equal(completed.vectors, whole.vectors)
    np.testing.assert_array_equal(completed.offsets, whole.offsets)
    assert completed.truncated == whole.truncated == 1
    state = json.loads((folder / "store.json").read_text())
    assert (state["texts"], state["rows"]) == (len(TEXTS), len(whole.vectors))


def test_vectors_beyond_half_precision_are_refused_and_fit_in_float32():
    model = FakeModel(scale=1e5)
    with pytest.raises(ProjheadsError, match="overflows float16"):
        encode_tokens(model, TEXTS, is_query=False, project=False)
    assert encode_tokens(model, TEXTS, is_query=False, project=False, dtype="float32").vectors.max() > 65504


def test_vectors_that_are_not_finite_are_refused_by_the_number_of_their_text(model):
    model.native.table.weight.data[3 + sum(b"gamma") % 60] = float("nan")
    with pytest.raises(ProjheadsError, match="text 2: a token vector is not finite"):
        encode_tokens(model, TEXTS, is_query=False, project=False)


@pytest.mark.parametrize("precision, tolerance", [("bf16", 0.05), ("fp16", 0.01)])
def test_half_precision_stays_near_full_precision(model, precision, tolerance):
    full = encode_tokens(model, TEXTS, is_query=False, project=True).vectors.astype(np.float32)
    half = encode_tokens(model, TEXTS, is_query=False, project=True, precision=precision).vectors.astype(np.float32)
    assert 0 < np.abs(full - half).max() < tolerance


def test_a_text_that_the_store_does_not_have_is_an_index_error(model):
    store = encode_tokens(model, TEXTS, is_query=False, project=False)
    with pytest.raises(IndexError):
        store[len(TEXTS)]
    assert sum(len(rows) for rows in store) == len(store.vectors)


def test_the_key_of_texts_tells_where_one_ends():
    assert text_key(["ab", "c"]) != text_key(["a", "bc"])
    assert text_key(["ab", "c"]) != text_key(["c", "ab"])
    assert text_key(["ab", "c"]) == text_key(("ab", "c"))


def print_peak_of_encoding(folder, texts):
    model = FakeModel()
    model.in_features, model.native.table = 1024, nn.Embedding(64, 1024)
    encode_tokens(model, ["alpha beta gamma delta epsilon"] * texts, is_query=False, project=False, folder=folder)
    # Not getrusage, whose peak begins with that of the process that started this one.
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


PEAK_IN_A_NEW_PROCESS = """
import runpy, sys
from pathlib import Path
test, folder, texts = sys.argv[1:]
runpy.run_path(test)["print_peak_of_encoding"](Path(folder), int(texts))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports the peak memory of a process")
def test_memory_does_not_grow_with_the_number_of_texts(tmp_path):
    peaks = []
    for texts in (5_000, 12_000):  # both more than one window, whose vectors are in memory
        command = [sys.executable, "-c", PEAK_IN_A_NEW_PROCESS, __file__, str(tmp_path / str(texts)), str(texts)]
        process = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
        peaks.append(1024 * int(process.stdout))
    added = (tmp_path / "12000" / "vectors.bin").stat().st_size - (tmp_path / "5000" / "vectors.bin").stat().st_size
    assert added == 7_000 * 7 * 1024 * 2
    assert peaks[1] - peaks[0] < added / 3
