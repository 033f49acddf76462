from pathlib import Path

import numpy as np
import pytest

from experiment.collections import Document, open_collection, write_beir_folder
from experiment.config.load import load_config
from experiment.disk.files import sha256_json
from projheads.errors import ProjheadsError
from train.data.examples import load_training_data, order_of


@pytest.fixture
def config(tmp_path):
    """60 queries over 30 documents: each document answers two queries."""
    corpus = [Document(f"d{i}", "title", f"text {i}") for i in range(40)]
    queries = {f"q{i}": f"question {i}" for i in range(60)}
    qrels = {f"q{i}": {f"d{i // 2}": 1} for i in range(60)}
    write_beir_folder(tmp_path / "set", corpus, queries, {"train": qrels})
    train = f"{{data: {tmp_path / 'set'}, batch_size: 8, validation_pairs: 10}}"
    text = f"heads: {{variants: [linear]}}\ntrain: {train}\nsweep: {{}}\neval: {{datasets: [pydocs]}}\n"
    (tmp_path / "c.yaml").write_text(text)
    return lambda *overrides: load_config(Path(tmp_path / "c.yaml"), overrides)


def test_no_held_out_document_is_trained_on(config):
    data = load_training_data(config())
    assert data.examples.shape == (50, 2)
    assert data.teacher_scores is None
    assert len(data.validation) == 10
    assert not set(data.examples[:, 1]) & set(data.validation[:, 1])
    assert data.documents[0].startswith("title text ")
    for query, document in data.examples:
        number = int(data.queries[query].split()[1])
        assert data.documents[document] == f"title text {number // 2}"


def test_a_part_of_the_pairs(config):
    data = load_training_data(config("train.max_pairs=20", "train.validation_pairs=0"))
    again = load_training_data(config("train.max_pairs=20", "train.validation_pairs=0", "seeds=[7]"))
    assert len(data.examples) == 20
    assert data.queries == again.queries
    assert data.hash == again.hash
    assert data.hash != load_training_data(config("train.max_pairs=21", "train.validation_pairs=0")).hash


def test_too_few_pairs_for_a_batch(config):
    with pytest.raises(
        ProjheadsError, match=r"leaves [67] training examples, too few for one step of train.batch_size=8;"
    ):
        load_training_data(config("train.max_pairs=8", "train.validation_pairs=1"))


def test_too_few_pairs_for_the_accumulated_batches_of_a_step(config):
    words = r"leaves 50 training examples, too few for one step of train.batch_size=8 x train.gradient_accumulation=7;"
    with pytest.raises(ProjheadsError, match=words):
        load_training_data(config("train.gradient_accumulation=7"))
    assert len(load_training_data(config("train.gradient_accumulation=6")).examples) == 50
    # The sweep says so about its own points.
    load_training_data(config("train.batch_size=64", "sweep={batch_size: [4, 8]}"))


@pytest.mark.parametrize(
    ("document", "query", "judged"),
    [
        (Document("d0", "", "text"), "question", {"d1": 1}),
        (Document("d0", "", "text"), "question", {"d0": 0}),
        (Document("d0", "", "text"), "question", {"d0": -1}),
        (Document("d0", "", " "), "question", {"d0": 1}),
        (Document("d0", "", "text"), " ", {"d0": 1}),
    ],
)
def test_data_without_a_usable_pair_is_one_line(config, tmp_path, document, query, judged):
    write_beir_folder(tmp_path / "none", [document], {"q0": query}, {"train": {"q0": judged}})
    with pytest.raises(ProjheadsError, match=r"none.* has no usable pairs: no judgement above grade 0"):
        load_training_data(config(f"train.data={tmp_path / 'none'}"))


def test_the_other_query_of_a_document_is_no_negative(config):
    data = load_training_data(config("train.validation_pairs=0"))
    marks = data.false_negatives(np.array([[0, 0], [1, 0], [2, 1]]))
    assert marks.tolist() == [[False, True, False], [True, False, False], [False, False, False]]


def test_identical_texts_under_other_ids_are_no_negatives(config, tmp_path):
    """d0 and d1 have one text, q1 and q2 too, and only q0-d0, q1-d1, q2-d2 and q3-d3 are judged."""
    corpus = [Document(f"d{i}", "", text) for i, text in enumerate(["same  text", "same text", "two", "three"])]
    queries = {"q0": "zero", "q1": "one", "q2": " one", "q3": "three"}
    qrels = {f"q{i}": {f"d{i}": 1} for i in range(4)}
    write_beir_folder(tmp_path / "copies", corpus, queries, {"train": qrels})
    options = [f"train.data={tmp_path / 'copies'}", "train.batch_size=2", "train.validation_pairs=0"]
    data = load_training_data(config(*options))
    place = {text: [at for at, one in enumerate(data.queries) if one == text] for text in queries.values()}
    batch = np.array([[place[queries[f"q{i}"]][0], i] for i in range(4)])
    assert data.documents[0].split() == data.documents[1].split()
    assert data.false_negatives(batch).tolist() == [
        [False, True, False, False],
        [True, False, True, False],
        [True, True, False, False],
        [False, False, False, False],
    ]
    assert data.notes["judgements_that_also_hold_for_an_identical_text"] == 5  # q0-d1, q1-d0, q1-d2, q2-d0 and q2-d1
    assert "identical text" in " ".join(data.describe(config(*options).train.data))
    # The data without copies keep the hash by which finished trials are known: that of the collection and the numbers.
    assert load_training_data(config()).hash == load_training_data(config("seeds=[7]")).hash
    plain = open_collection(str(tmp_path / "set"), split="train").hash
    assert load_training_data(config()).hash == sha256_json([plain, None, 10])


def test_a_relevant_document_of_a_pair_that_was_not_chosen_is_no_negative(config, tmp_path):
    corpus = [Document(f"d{i}", "", f"text {i}") for i in range(8)]
    qrels = {f"q{i}": {f"d{j}": 1 for j in range(8)} for i in range(8)}
    write_beir_folder(tmp_path / "dense", corpus, {f"q{i}": f"question {i}" for i in range(8)}, {"train": qrels})
    options = [f"train.data={tmp_path / 'dense'}", "train.max_pairs=16", "train.validation_pairs=0"]
    data = load_training_data(config(*options))
    assert (data.false_negatives(data.examples) | np.eye(16, dtype=bool)).all()


def test_order_depends_on_the_seed_alone_and_covers_every_epoch(config):
    data = load_training_data(config())
    first, again, other = (list(order_of(data, 8, 12, seed)) for seed in (0, 0, 1))
    assert len(first) == 12
    assert all(batch.shape == (8,) for batch in first)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    epoch = np.concatenate(first[:6])
    assert len(np.unique(epoch)) == 48
    assert not np.array_equal(first[0], first[6])


def test_a_share_of_the_examples_gets_a_document_of_another_query(config):
    clean, corrupt = load_training_data(config()), load_training_data(config("train.corrupt=0.2"))
    again = load_training_data(config("train.corrupt=0.2", "seeds=[7]", "heads.variants=[linear, ffn]"))
    assert np.array_equal(corrupt.examples, again.examples)
    assert (corrupt.queries, corrupt.documents) == (clean.queries, clean.documents)
    assert np.array_equal(corrupt.validation, clean.validation)
    changed = corrupt.examples[:, 1] != clean.examples[:, 1]
    assert changed.sum() == 10
    assert np.array_equal(corrupt.examples[:, 0], clean.examples[:, 0])
    for query, document in corrupt.examples[changed]:
        assert list(corrupt.relevant[query]) == [document]
        assert document not in clean.relevant[query]
        assert document not in clean.validation[:, 1]
    assert corrupt.hash != clean.hash != load_training_data(config("train.corrupt=0.1")).hash
    assert load_training_data(config("train.corrupt=0")).hash == clean.hash


def test_corrupt_pairs_have_no_teacher_scores(config):
    with pytest.raises(ProjheadsError, match="corrupt exchanges documents, for which the loss kl has no teacher"):
        config("train.corrupt=0.2", "train.loss=kl", "train.data={tuples: a.jsonl}")
