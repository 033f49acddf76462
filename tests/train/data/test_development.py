from pathlib import Path

import numpy as np
import pytest
import torch

from experiment.collections import Document, write_beir_folder
from experiment.config.load import load_config
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import read_train_lines
from projheads.errors import ProjheadsError
from train.data.examples import load_training_data
from train.data.tuples import Picked, joined
from train.experiment import train_experiment
from train.validation import validate

WORDS = [f"{noun} {verb}" for noun in ("cat", "dog", "bird", "rain", "sun", "mat") for verb in ("sat", "run", "walk")]


BOTH = "train.validation=[{split: dev}, {source: other, split: dev}]"


@pytest.fixture
def config(tmp_path, monkeypatch, backbone):
    """Training, development and test queries over 18 documents, and development queries of 9 others.

    One development query is also a training query.
    """
    monkeypatch.chdir(tmp_path)
    corpus = [Document(f"d{i}", "", f"the {words}") for i, words in enumerate(WORDS)]
    queries = {f"q{i}": f"what {words}" for i, words in enumerate(WORDS)}
    queries |= {f"dev{i}": f"is it the {words}" for i, words in enumerate(WORDS[:6])} | {"copy": queries["q0"]}
    train = {f"q{i}": {f"d{i}": 1} for i in range(len(WORDS))}
    dev = {f"dev{i}": {f"d{i}": 2, f"d{i + 1}": 1, f"d{i + 2}": 0, "gone": 1} for i in range(6)} | {"copy": {"d0": 1}}
    write_beir_folder(tmp_path / "set", corpus, queries, {"train": train, "dev": dev, "test": train})
    more = [Document(f"e{i}", "", f"a {words}") for i, words in enumerate(WORDS[9:])]
    write_beir_folder(
        tmp_path / "other",
        more,
        {f"o{i}": f"which {WORDS[9 + i]}" for i in range(4)},
        {"dev": {f"o{i}": {f"e{i}": 1} for i in range(4)}},
    )
    (tmp_path / "c.yaml").write_text(
        f"cache: cache\ndevice: cpu\nseeds: [0, 1]\nheads: {{variants: [linear], out_features: 8}}\n"
        f"model: {{backbone: {backbone}, query_length: 12, document_length: 16}}\n"
        "train: {data: set, batch_size: 4, validation_pairs: 3, validation: {split: dev}}\n"
        "sweep: {optimizer.head_lr: [1e-9, 3e-2], extend: 0}\neval: {datasets: [set]}\n"
    )
    return lambda *overrides: load_config(Path("c.yaml"), overrides)


def test_development_queries_with_their_grades_over_their_corpus(config):
    data = load_training_data(config())
    (development,) = data.development
    assert [data.queries[place] for place in data.development_queries[0]] == list(development.queries)
    assert [data.documents[place] for place in data.development_documents[0]] == [f"the {words}" for words in WORDS]
    assert development.queries == [f"is it the {words}" for words in WORDS[:6]]
    assert development.about == "6 of 7 queries (1 are also training queries) of set (dev), over all 18 documents"
    assert development.gains.sum(axis=1).tolist() == [3.0] * 6
    assert all(development.gains[row, row] == 2 for row in range(6))
    plain = load_training_data(config("train.validation=null"))
    assert np.array_equal(data.examples, plain.examples)
    assert np.array_equal(data.validation, plain.validation)
    assert plain.hash != data.hash != load_training_data(config("train.validation={split: dev, max_queries: 3}")).hash


def test_a_large_corpus_is_reduced_to_judged_documents_and_random_ones(config):
    settings = "train.validation={split: dev, max_queries: 2, max_documents: 10}"
    first, again = (load_training_data(config(settings)).development[0] for _ in range(2))
    assert (len(first.queries), len(first.documents)) == (2, 10)
    assert first.gains.sum(axis=1).tolist() == [3.0, 3.0]
    assert first.documents == again.documents
    few = load_training_data(config("train.validation={split: dev, max_queries: 1, max_documents: 2}"))
    assert len(few.development[0].documents) == 3  # every judged document of the query


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.validation={split: train}", "the split train of set is trained on"),
        ("train.validation={split: test}", "test queries must not choose anything"),
        ("train.validation=[{split: dev}, {split: test}]", "test queries must not choose anything"),
        ("train.validation=[{split: dev}, {split: train}]", "the split train of set is trained on"),
        ("train.validation=[{split: dev}, {source: set, split: dev}]", "set .dev. is listed twice"),
        ("train.validation=[{split: dev}, {split: dev, most: 3}]", "train.validation.1.most"),
        ("train={data: t.jsonl, validation: {split: dev}}", "train.data has no single collection to take a split of"),
        ("sweep={validation.split: [dev, test]}", "train.validation.split is the same for all trials"),
    ],
)
def test_data_that_must_not_choose_is_refused(config, override, words):
    with pytest.raises(ProjheadsError, match=words):
        config(override)


def test_the_sweep_chooses_by_development_queries(config):
    settings = config("train.validation_pairs=0")
    train_experiment(settings)
    for trial in ExperimentFolder(settings.output).trials():
        record = trial.read_trial()
        assert record.sweep.measure.startswith("nDCG@10 on 6 of 7 queries")
        assert set(record.validation) == {"development_nDCG@10"}
        last = [line for line in read_train_lines(trial.train_jsonl) if line.development_ndcg is not None][-1]
        assert last.development_ndcg == record.validation["development_nDCG@10"]
        scores = {point.values["optimizer.head_lr"]: point.seeds for point in record.sweep.points}
        other = str(1 - record.seed)
        assert record.learning_rate == max(scores, key=lambda rate: scores[rate][other])
        assert record.validation["development_nDCG@10"] == scores[record.learning_rate][str(record.seed)]


def test_the_measure_is_the_mean_over_collections_of_the_ndcg_of_ir_measures(config):
    ir_measures = pytest.importorskip("ir_measures")
    one = load_training_data(config("train.validation_pairs=0"))
    data = load_training_data(config("train.validation_pairs=0", BOTH))
    assert one.hash != data.hash
    generator = torch.Generator().manual_seed(0)
    vectors = {
        True: torch.randn(len(data.queries), 8, generator=generator),
        False: torch.randn(len(data.documents), 8, generator=generator),
    }

    class Embedder:
        def lengths(self, indices, *, is_query):
            return np.ones(len(indices), np.int64)

        def __call__(self, head, indices, *, is_query):
            return vectors[is_query][torch.from_numpy(indices)], torch.ones(len(indices), dtype=torch.long)

    head = torch.nn.Linear(1, 1)
    found = validate(config().train, head, head, Embedder(), data)
    theirs = {}
    for development, queries, documents in zip(
        data.development, data.development_queries, data.development_documents, strict=True
    ):
        assert [data.queries[place] for place in queries] == list(development.queries)
        scores = vectors[True][queries] @ vectors[False][documents].T
        run = {f"q{q}": {f"d{d}": float(score) for d, score in enumerate(row)} for q, row in enumerate(scores)}
        grades = {
            f"q{q}": {f"d{d}": int(grade) for d, grade in enumerate(row)} for q, row in enumerate(development.gains)
        }
        measured = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], grades, run)[ir_measures.nDCG @ 10]
        theirs[f"development_nDCG@10 of {development.name}"] = pytest.approx(measured, abs=1e-6)
    assert list(theirs) == ["development_nDCG@10 of set (dev)", "development_nDCG@10 of other (dev)"]
    assert found == theirs | {"development_nDCG@10": pytest.approx(sum(one.expected for one in theirs.values()) / 2)}


def test_several_collections_choose_by_their_mean_and_keep_the_score_of_each(config):
    settings = config(BOTH, "seeds=[0]", "sweep={}")
    train_experiment(settings)
    (trial,) = ExperimentFolder(settings.output).trials()
    found = trial.read_trial().validation
    line = [line for line in read_train_lines(trial.train_jsonl) if line.development_ndcg is not None][-1]
    each = {name: found[f"development_nDCG@10 of {name}"] for name in ("set (dev)", "other (dev)")}
    assert line.development == each
    assert line.development_ndcg == found["development_nDCG@10"] == pytest.approx(sum(each.values()) / 2)


def test_one_collection_in_a_list_is_written_as_one_so_that_keys_of_results_stay(config):
    one, listed, none = config(), config("train.validation=[{split: dev}]"), config("train.validation=[]")
    assert one.train.key_values() == listed.train.key_values()
    assert one.train.model_dump(mode="json")["validation"]["source"] == "set"
    assert "validation" not in none.train.key_values()
    assert none.train.key_values() == config("train.validation=null").train.key_values()
    assert len(config(BOTH).train.key_values()["validation"]) == 2


def test_texts_are_appended_to_a_lazy_column_without_reading_it():
    read = []

    def texts(places):
        read.append(len(places))
        return [f"text {place}" for place in places]

    both = joined(Picked(texts, np.arange(5)), ["more"])
    assert read == []
    assert list(both) == [*(f"text {place}" for place in range(5)), "more"]
    assert both[5] == "more"
    assert both[0:1] == ["text 0"]


def test_two_columns_of_which_one_is_lazy_are_read_in_bulk():
    read = []

    def texts(places):
        read.append(places.tolist())
        return [f"text {place}" for place in places]

    both = joined(["first"], Picked(texts, np.arange(5)))
    assert read == []
    assert both.pick(np.array([4, 0, 2]))[:] == ["text 3", "first", "text 1"]
    assert read == [[3, 1]]
