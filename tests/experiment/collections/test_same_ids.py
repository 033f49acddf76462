"""Which queries may find the document of their own id: a literal table, then every place that follows the rule."""

import numpy as np
import pytest

from experiment.collections import Document, open_collection, write_beir_folder
from experiment.collections.same_ids import excluded_ids, excluded_places
from experiment.config.load import load_config
from projheads.errors import ProjheadsError
from train.data.examples import load_training_data
from train.data.tuples import pairs_of

CORPUS = [
    Document("1", "", "an argument"),
    Document("2", "A title", "another  argument\n"),
    Document("3", "", "something else"),
    Document("d", "", "the answer"),
]
QUERIES = {"1": " an argument", "2": "another argument", "3": "a question", "4": "a fourth question"}
QRELS = {query: {"d": 1} for query in QUERIES}


@pytest.fixture
def collection(tmp_path):
    def make(qrels=QRELS):
        write_beir_folder(tmp_path / "set", CORPUS, QUERIES, {"train": qrels, "test": qrels})
        return open_collection(str(tmp_path / "set"), split="test")

    return make


JUDGED = {**QRELS, "3": {"3": 1}}


@pytest.mark.parametrize(
    "source, exclude, qrels, excluded",
    [
        ("set", "auto", QRELS, "12"),  # only texts that are the query's
        ("hf:a/b", "auto", QRELS, "12"),
        ("beir:arguana", "auto", QRELS, "123"),  # as BEIR's evaluation does
        ("nano:arguana", "auto", QRELS, "123"),
        ("set", True, QRELS, "123"),
        ("set", False, QRELS, ""),
        ("beir:arguana", False, QRELS, ""),
        ("set", "auto", JUDGED, ""),  # ids name different things
        ("beir:arguana", "auto", JUDGED, ""),
        ("set", "auto", {**QRELS, "3": {"d": 1, "3": 0}}, ""),
        ("set", True, JUDGED, "123"),
    ],
)
def test_the_rule(collection, source, exclude, qrels, excluded):
    assert excluded_ids(collection(qrels), source, exclude) == set(excluded)


def test_places_are_those_in_the_corpus_and_minus_one():
    places = excluded_places(["4", "2", "1", "3"], ["d", "3", "2", "1"], {"1", "2", "4"})
    assert places.tolist() == [-1, 2, 3, -1]
    assert places.dtype == np.int64
    listed = {"2": ["d", "gone"], "3": ["1", "2"]}
    places = excluded_places(["4", "2", "1", "3"], ["d", "3", "2", "1"], {"1", "2", "4"}, listed)
    assert places.tolist() == [[-1, -1, -1], [2, 0, -1], [3, -1, -1], [-1, 2, 3]]


@pytest.fixture
def config(collection, tmp_path):
    collection({**QRELS, "4": {"1": 1, "2": 1, "3": 1}})

    def config(value):
        path = tmp_path / "try.yaml"
        data = f"{{source: {tmp_path}/set, exclude_own_id: {value}}}"
        path.write_text(
            f"heads: {{variants: [linear]}}\neval: {{datasets: [{data}]}}\n"
            f"train: {{data: {data}, batch_size: 2, validation_pairs: 0}}\nsweep: {{}}\n"
        )
        return load_config(path)

    return config


@pytest.mark.parametrize("value, excluded", [("auto", "12"), ("true", "123"), ("false", "")])
def test_an_excluded_document_is_no_negative_in_training(config, value, excluded):
    data = load_training_data(config(value))
    rows = {tuple(row): row for row in data.examples.tolist()}
    queries, documents = list(data.queries), list(data.documents)
    fourth = {
        document.id: rows[queries.index(QUERIES["4"]), documents.index(document.passage)] for document in CORPUS[:3]
    }
    for name in "123":
        mine = [queries.index(QUERIES[name]), documents.index("the answer")]
        marks = data.false_negatives(np.array([mine, fourth[name]]))
        assert marks.tolist() == [[False, name in excluded], [False, False]]
    assert data.notes.get("same_id_documents_excluded", 0) == len(excluded)
    hashes = {load_training_data(config(other)).hash for other in ("auto", "true", "false")}
    assert len(hashes) == 3


def test_some_of_the_pairs_keep_their_exclusions(collection):
    tuples = pairs_of(collection({**QRELS, "4": {"1": 1, "2": 1, "3": 1}}), {"1", "2", "3"})
    some = tuples.take(np.array([4, 1]))
    assert some.queries == [QUERIES["4"], QUERIES["2"]]
    assert some.documents == ["A title another  argument", "the answer"]
    assert some.excluded.tolist() == [[1, 0]]


def test_the_value_is_auto_true_or_false(config):
    with pytest.raises(ProjheadsError, match=r"exclude_own_id: input should be 'auto', True or False, not 'always'"):
        config("always")
