"""Stored forms against their formulas, and their place in an experiment's evaluation."""

import json

import numpy as np
import pytest

import eval.search.compressed as storage_module
import eval.search.pooling as pooling_module
import eval.search_task as task_module
from eval.__main__ import main
from eval.evaluate import evaluate_experiment
from eval.measures import measure_run
from eval.search.compressed import check_forms, stored_as
from experiment.collections import open_collection
from experiment.config.storage_forms import CODES, Code, parse_storage
from experiment.console.command import run_command
from experiment.console.progress import Progress
from experiment.encoding.store import TokenStore, offsets_of
from projheads.errors import ProjheadsError
from projheads.hosts.head_files import load_head


def make_store(seed, texts=300, width=16):
    """Clustered unit vectors, as a head's are, so that codes have something to find."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(0, 9, size=texts)
    centres = generator.standard_normal((40, width))
    rows = centres[generator.integers(40, size=lengths.sum())]
    rows += 0.3 * generator.standard_normal(rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return TokenStore(rows.astype(np.float16), offsets_of(lengths))


@pytest.fixture(scope="module")
def stores():
    return make_store(0, texts=20), make_store(1)


def read_back(name, stores, folder):
    with stored_as(parse_storage(name), *stores, folder) as stored:
        rows = np.array(stored.documents.vectors), np.array(stored.queries.vectors)
        if "pool" not in name:
            np.testing.assert_array_equal(stored.documents.offsets, stores[1].offsets)
        np.testing.assert_array_equal(stored.queries.offsets, stores[0].offsets)
        return *rows, stored.bytes_per_vector, stored.index_bytes


def test_half_precision_is_what_the_embeddings_are(stores, tmp_path):
    with stored_as(parse_storage("fp16"), *stores, tmp_path) as stored:
        assert stored.queries is stores[0]
        assert stored.documents is stores[1]
        assert (stored.bytes_per_vector, stored.index_bytes) == (32, 32 * len(stores[1].vectors))


def test_a_new_code_is_one_entry_of_the_table(stores, tmp_path, monkeypatch):
    four_bits = Code("sq4", "four bits a number", lambda faiss, width, parts: faiss.index_factory(width, "SQ4"))
    monkeypatch.setitem(CODES, "sq4", four_bits)
    documents, queries, size, _ = read_back("dim8-sq4", stores, tmp_path)
    assert (documents.shape[1], queries.shape[1], size) == (8, 8, 4)
    assert all(len(np.unique(column)) <= 16 for column in documents.T)
    assert [form.code for form in check_forms(["fp16", "sq4"], 16)] == ["fp16", "sq4"]


def test_eight_bits_are_the_nearest_of_256_steps_over_the_range_of_each_dimension(stores, tmp_path):
    documents, queries, size, total = read_back("int8", stores, tmp_path)
    rows = stores[1].vectors.astype(np.float64)
    low, high = rows.min(axis=0), rows.max(axis=0)
    # FAISS's steps: a value is the middle of the 255th of the range that it is in.
    expected = low + (np.clip(np.floor((rows - low) / (high - low) * 255), 0, 255) + 0.5) / 255 * (high - low)
    np.testing.assert_allclose(documents, expected, atol=2**-10)
    assert 0.0005 < np.abs(documents - rows).max() < 0.005
    np.testing.assert_array_equal(queries, stores[0].vectors)
    assert size == 16
    assert 16 * len(rows) < total < 16 * len(rows) + 1000


def test_fewer_dimensions_are_the_first_ones_scaled_to_norm_one(stores, tmp_path):
    documents, queries, size, total = read_back("dim5", stores, tmp_path)
    for rows, store in ((documents, stores[1]), (queries, stores[0])):
        expected = store.vectors[:, :5].astype(np.float64)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(rows, expected, atol=2**-11)
    assert (size, total) == (10, 10 * len(documents))


def test_a_product_code_is_one_of_256_vectors_in_each_part(stores, tmp_path):
    documents, _, size, total = read_back("pq4", stores, tmp_path)
    for part in range(4):
        seen = np.unique(documents[:, 4 * part : 4 * part + 4], axis=0)
        assert 100 < len(seen) <= 256
    assert size == 4
    assert total >= 4 * len(documents) + 256 * 16 * 4


def test_a_residual_code_is_a_sum_of_one_of_256_vectors_a_stage(stores, tmp_path):
    documents, _, size, _ = read_back("rq1", stores, tmp_path)
    assert len(np.unique(documents, axis=0)) <= 256
    assert size == 1
    twice = read_back("rq2", stores, tmp_path)[0]
    assert error(twice, stores) < 0.8 * error(documents, stores)


def error(documents, stores):
    return np.square(documents.astype(np.float64) - stores[1].vectors).sum(axis=1).mean()


def test_the_fewer_bytes_the_farther_from_what_was_stored(stores, tmp_path):
    errors = [error(read_back(name, stores, tmp_path)[0], stores) for name in ("int8", "pq8", "pq4", "pq2")]
    assert errors == sorted(errors)
    assert errors[0] < 1e-4 < 0.01 < errors[-1]


@pytest.mark.parametrize("name", ["int8", "pq4", "rq2", "dim8-pq2", "centred-int4", "dim8-centred-pool2-int8"])
def test_the_same_vectors_give_the_same_bytes_in_pieces_too(name, stores, tmp_path, monkeypatch):
    once = read_back(name, stores, tmp_path)[0]
    monkeypatch.setattr(storage_module, "ROWS", 100)
    monkeypatch.setattr(pooling_module, "ROWS", 100)
    np.testing.assert_array_equal(read_back(name, stores, tmp_path)[0], once)
    assert not list(tmp_path.iterdir())


def centred(rows, documents):
    """The formula, in float64: less the documents' mean, then scaled to norm 1."""
    moved = rows.astype(np.float64) - documents.astype(np.float64).mean(axis=0)
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def test_centring_subtracts_the_documents_mean_from_both_sides(tmp_path):
    """All vectors lie in a narrow cone; centred, they lie on all sides."""
    sides = []
    for seed, texts in ((4, 20), (5, 300)):
        store = make_store(seed, texts=texts)
        rows = store.vectors.astype(np.float64) + 3.0 * np.eye(16)[0]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        sides.append(TokenStore(rows.astype(np.float16), store.offsets))
    assert (sides[1].vectors[:, 0] > 0.8).all()
    documents, queries, size, total = read_back("centred", sides, tmp_path)
    np.testing.assert_allclose(documents, centred(sides[1].vectors, sides[1].vectors), atol=2**-10)
    np.testing.assert_allclose(queries, centred(sides[0].vectors, sides[1].vectors), atol=2**-10)
    assert np.abs(documents.astype(np.float64).mean(axis=0)).max() < 0.1
    assert (size, total) == (32, 32 * len(documents) + 64)


def test_centring_comes_after_the_cut(stores, tmp_path):
    cut = stores[1].vectors[:, :5].astype(np.float64)
    cut /= np.linalg.norm(cut, axis=1, keepdims=True)
    documents, _, size, _ = read_back("dim5-centred", stores, tmp_path)
    np.testing.assert_allclose(documents, centred(cut, cut), atol=2**-10)
    assert size == 10


def test_a_bit_a_number_is_its_sign(stores, tmp_path):
    documents, queries, size, total = read_back("binary", stores, tmp_path)
    np.testing.assert_array_equal(documents, np.where(stores[1].vectors >= 0, 1, -1))
    np.testing.assert_array_equal(queries, stores[0].vectors)
    assert size == 2
    assert 2 * len(documents) <= total < 2 * len(documents) + 1000
    moved, _, _, _ = read_back("centred-binary", stores, tmp_path)
    np.testing.assert_array_equal(moved, np.where(centred(stores[1].vectors, stores[1].vectors) >= 0, 1, -1))
    assert (moved != documents).any()


def test_hamming_scores_are_equal_signs_less_different_ones(stores, tmp_path):
    documents, queries, size, _ = read_back("hamming", stores, tmp_path)
    bits = [np.packbits(store.vectors >= 0, axis=1) for store in stores]
    distance = np.bitwise_count(bits[0][:, None] ^ bits[1][None]).sum(axis=2, dtype=np.int64)
    np.testing.assert_array_equal(queries.astype(np.int64) @ documents.astype(np.int64).T, 16 - 2 * distance)
    assert size == 2


def test_bits_are_those_of_sentence_transformers_and_hamming_distances_those_of_faiss(stores, tmp_path):
    faiss = pytest.importorskip("faiss")
    quantize = pytest.importorskip("sentence_transformers").quantize_embeddings
    documents, queries, _, _ = read_back("hamming", stores, tmp_path)
    theirs = [quantize(np.asarray(store.vectors, np.float32), precision="ubinary") for store in stores]
    assert all((store.vectors != 0).all() for store in stores)  # their bit of a 0 is 0, ours is 1
    for ours, packed in zip((queries, documents), theirs, strict=True):
        np.testing.assert_array_equal(np.packbits(ours > 0, axis=1), packed)
    index = faiss.IndexBinaryFlat(16)
    index.add(theirs[1])
    distances, found = index.search(theirs[0][:5], 20)
    products = queries[:5].astype(np.int64) @ documents.astype(np.int64).T
    np.testing.assert_array_equal(np.take_along_axis(products, found, axis=1), 16 - 2 * distances)


def test_four_bits_are_the_nearest_of_16_steps_over_the_range_of_each_dimension(stores, tmp_path):
    documents, _, size, _ = read_back("int4", stores, tmp_path)
    rows = stores[1].vectors.astype(np.float64)
    low, high = rows.min(axis=0), rows.max(axis=0)
    expected = low + (np.clip(np.floor((rows - low) / (high - low) * 15), 0, 15) + 0.5) / 15 * (high - low)
    np.testing.assert_allclose(documents, expected, atol=2**-9)
    assert size == 8


def test_a_code_of_cut_vectors_is_that_of_the_first_dimensions(stores, tmp_path):
    cut = read_back("dim8", stores, tmp_path)[0]
    both, _, size, _ = read_back("dim8-int8", stores, tmp_path)
    assert size == 8
    assert 0 < np.abs(both - cut).max() < 0.01


def test_too_few_vectors_to_train_a_code_are_one_clear_line(tmp_path):
    few = make_store(3, texts=4)
    with pytest.raises(ProjheadsError, match=r'eval\.storage "pq4": \d+ token vectors are too few'):
        read_back("pq4", (few, few), tmp_path)


def test_texts_without_a_vector_are_stored_as_none(tmp_path):
    empty = TokenStore(np.zeros((0, 16), np.float16), np.zeros(4, np.int64))
    assert read_back("dim4", (empty, empty), tmp_path)[0].shape == (0, 4)
    assert read_back("dim4-centred-pool2", (empty, empty), tmp_path)[0].shape == (0, 4)


def evaluate(config):
    with Progress() as progress:
        evaluate_experiment(config, progress)


def record_of(miniature, slug="linear", seed=0):
    return json.loads(miniature.folder.trial(slug, seed).eval_json("odd").read_text())


FORMS = "eval.storage=[int8, dim4, dim4-int8]"


def test_every_model_gets_an_entry_for_each_form_and_keeps_its_own_result(miniature):
    evaluate(miniature.config())
    before = record_of(miniature)
    assert before.pop("storage") == {}
    evaluate(miniature.config(FORMS))
    record = record_of(miniature)
    assert {name: value for name, value in record.items() if name != "storage"} == before
    assert list(record["storage"]) == ["int8", "dim4", "dim4-int8"]
    assert [entry["bytes_per_vector"] for entry in record["storage"].values()] == [6, 8, 4]
    for entry in record["storage"].values():
        assert entry["per_query"].keys() == record["measures"]["nDCG@10"].keys()
        assert entry["measures"].keys() == record["means"].keys()
        assert entry["measures"]["nDCG@10"] == pytest.approx(np.mean(list(entry["per_query"].values())), abs=1e-12)
    assert json.loads(miniature.folder.reference("untrained", 0).eval_json("odd").read_text())["storage"].keys()
    assert not json.loads(miniature.folder.reference("bm25").eval_json("odd").read_text())["storage"]


def test_half_precision_is_compared_with_float32(miniature, monkeypatch):
    """With fp16 among the forms, the evaluation itself searches float32 vectors, and the form rounds them."""
    searched = []
    search = task_module.SearchTask.search

    def watched(self, what, queries, documents, progress):
        searched.append((what, queries.vectors.dtype.name, documents.vectors.dtype.name, np.array(documents.vectors)))
        return search(self, what, queries, documents, progress)

    monkeypatch.setattr(task_module.SearchTask, "search", watched)
    evaluate(miniature.config("eval.storage=[fp16]"))
    assert record_of(miniature)["storage"]["fp16"]["bytes_per_vector"] == 12
    (wide,) = [call for call in searched if call[0] == "linear seed 0"]
    (half,) = [call for call in searched if call[0] == "linear seed 0 as fp16"]
    assert wide[1:3] == ("float32", "float32")
    assert half[1:3] == ("float32", "float16")
    np.testing.assert_array_equal(half[3], wide[3].astype(np.float16))
    assert (half[3] != wide[3]).any()
    searched.clear()
    evaluate(miniature.config("eval.vectors=fp16", "eval.storage=[fp16]"))
    assert {call[1:3] for call in searched} == {("float16", "float16")}
    assert not [call for call in searched if call[0].endswith("as fp16")]


def test_measures_of_a_form_are_those_of_maxsim_with_what_was_read_back(miniature, fake_host):
    evaluate(miniature.config("eval.storage=[dim4]"))
    collection = open_collection(str(miniature.collection), split="test")
    head = load_head(miniature.folder.trial("linear", 0).model / "1_Head")
    model = fake_host(7, head)

    def embed(text, is_query):
        tokens = model.tokenize([text], is_query=is_query)
        states = model.token_states(tokens)[0][model.scoring_mask(tokens, is_query=is_query)[0]].half().float()
        rows = head(states).detach().double().numpy()
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)[:, :4].astype(np.float64)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    documents = {name: embed(document.passage, False) for name, document in collection.corpus.items()}
    run = {}
    for query in collection.qrels:
        rows = embed(collection.queries[query], True)
        scores = {name: (rows @ found.T).max(axis=1).sum() for name, found in documents.items()}
        # Equal documents have equal scores up to rounding; the higher id comes first.
        run[query] = sorted(((n, round(s, 9)) for n, s in scores.items()), key=lambda pair: (pair[1], pair[0]))[::-1]
    expected = measure_run(["nDCG@10"], collection.qrels, run)["nDCG@10"]
    assert record_of(miniature)["storage"]["dim4"]["per_query"] == pytest.approx(expected, abs=1e-9)


def test_a_form_that_is_added_is_all_that_is_computed(miniature, monkeypatch, capsys):
    evaluate(miniature.config("eval.storage=[int8]"))
    before = record_of(miniature)
    searched = []
    real = task_module.search
    monkeypatch.setattr(task_module, "search", lambda problem, *rest: searched.append(1) or real(problem, *rest))
    evaluate(miniature.config("eval.storage=[dim4, int8]"))
    assert len(searched) == 6  # four trials and two untrained rows, one form each
    after = record_of(miniature)
    assert list(after["storage"]) == ["dim4", "int8"]
    assert after["storage"]["int8"] == before["storage"]["int8"]
    capsys.readouterr()
    evaluate(miniature.config("eval.storage=[int8]"))
    assert len(searched) == 6
    assert "nothing to do" in capsys.readouterr().out
    assert record_of(miniature) == after


def test_a_result_that_is_made_anew_has_its_forms_made_anew(miniature):
    evaluate(miniature.config("eval.storage=[int8]"))
    before = record_of(miniature)["storage"]["int8"]["key"]
    evaluate(miniature.config("eval.storage=[int8]", "eval.depth=21"))
    record = record_of(miniature)
    assert record["storage"].keys() == {"int8"}
    assert record["storage"]["int8"]["key"] != before


def test_a_form_that_fails_leaves_the_result_and_the_other_forms(miniature, capsys):
    with pytest.raises(ProjheadsError, match="failed evaluations"):
        evaluate(miniature.config("eval.storage=[int8, pq2]"))
    assert 'eval.storage "pq2": ' in capsys.readouterr().out
    assert record_of(miniature)["storage"].keys() == {"int8"}


@pytest.mark.parametrize(
    "override, line",
    [
        ("eval.storage=[int9]", 'unknown storage form "int9"'),
        ("eval.storage=[int8, int8]", 'the storage form "int8" is listed twice'),
        ("eval.storage=[pq4]", "4 parts do not divide a vector of 6 numbers; use one of 1, 2, 3, 6"),
        ("eval.storage=[dim8]", "a token vector has 6 numbers, not 8"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_form_that_cannot_be_is_one_clear_line_before_anything_is_encoded(
    miniature, fake_host, capsys, override, line, dry
):
    assert run_command(main, [str(miniature.yaml), override, *dry]) == 2
    assert line in capsys.readouterr().err
    assert fake_host.calls == 0
