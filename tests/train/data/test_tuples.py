"""Tuples with hard negatives and teacher scores: JSONL files, the hub's layouts, and how they are trained on."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest

from experiment.collections import Document, open_collection, write_beir_folder
from experiment.config.load import load_config
from projheads.errors import ProjheadsError
from train.data.examples import load_training_data
from train.data.tuples_file import read_tuples
from train.data.tuples_hub import read_hub_tuples


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    datasets.disable_progress_bars()


@pytest.fixture
def collection(tmp_path):
    corpus = [Document(f"d{i}", "", f"text {i}") for i in range(12)]
    queries = {f"q{i}": f"question {i}" for i in range(10)}
    qrels = {f"q{i}": {f"d{i}": 1, f"d{i + 1}": 1 if i == 0 else 0} for i in range(10)}
    write_beir_folder(tmp_path / "set", corpus, queries, {"train": qrels})
    return tmp_path / "set"


def jsonl(path, *rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
    )
    return path


def texts_of(tuples):
    """The rows as texts, whatever the indices are."""
    return [
        [tuples.queries[int(row[0])], *(tuples.documents[int(document)] for document in row[1:])] for row in tuples.rows
    ]


def test_texts_triplets_and_ids_are_the_same_tuples(tmp_path, collection):
    expected = [["question 0", "text 0", "text 5", "text 6"], ["question 1", "text 1", "text 5", "text 0"]]
    by_text = [{"query": q, "documents": documents} for q, *documents in expected]
    triplets = [
        {"anchor": "question 0", "positive": "text 0", "negative": ["text 5", "text 6"]},
        {"query": "question 1", "positive": "text 1", "negative_1": "text 5", "negative_2": "text 0", "else": 3},
    ]
    by_id = [
        {"about": {"made_by": "hand"}},
        {"query_id": "q0", "document_ids": ["d0", "d5", "d6"]},
        {"query_id": "q1", "document_ids": ["d1", "d5", "d0"]},
    ]
    opened = open_collection(str(collection), split="train")
    found = [
        read_tuples(jsonl(tmp_path / "t.jsonl", *rows), n_ways=None, collection=None) for rows in (by_text, triplets)
    ]
    found.append(read_tuples(jsonl(tmp_path / "t.jsonl", *by_id), n_ways=None, collection=opened))
    assert [texts_of(tuples) for tuples in found] == [expected] * 3
    assert all(sorted(tuples.documents) == ["text 0", "text 1", "text 5", "text 6"] for tuples in found)
    assert found[0].hash == found[1].hash
    # The collection knows of a second relevant document only if it is in a tuple: d0 for q0, d1 for q0 and q1.
    judged = {(found[2].queries[q], found[2].documents[d]) for q, d in found[2].judged}
    assert judged == {("question 0", "text 0"), ("question 0", "text 1"), ("question 1", "text 1")}


def test_a_part_of_the_documents_and_their_scores(tmp_path):
    rows = [
        {"query": f"q{i}", "documents": ["a", "b", f"c{i}", "d"][: 4 - i], "scores": [4, 3, 2, 1][: 4 - i]}
        for i in (0, 1)
    ]
    tuples = read_tuples(jsonl(tmp_path / "t.jsonl", *rows), n_ways=2, collection=None)
    assert texts_of(tuples) == [["q0", "a", "b"], ["q1", "a", "b"]]
    assert tuples.scores.tolist() == [[4, 3], [4, 3]]
    assert tuples.scores.dtype == np.float32


TWO = {"query": "q", "documents": ["a", "b"]}
THREE = {"query": "q", "documents": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("rows", "n_ways", "line"),
    [
        ([TWO, "{broken"], None, "line 2: invalid JSON: "),
        ([TWO, "[1]"], None, "line 2: [1] is not a JSON object"),
        ([TWO, {"query": "q"}], None, "line 2: a tuple has "),
        ([TWO, {"query": "q", "documents": "a"}], None, 'line 2: the documents are "a"; they must be a list'),
        ([TWO, {"query": 3, "documents": ["a", "b"]}], None, "line 2: 3 is not a query or document"),
        ([TWO, {"query": "q", "documents": ["a"]}], None, "line 2: has 1 document, but line 1 has 2"),
        ([TWO, THREE], None, "line 2: has 3 documents, but line 1 has 2; set n_ways"),
        ([THREE, TWO], 3, "line 2: has 2 documents, but n_ways is 3"),
        ([{"query": "q", "documents": ["a"]}], None, "line 1: has 1 document, but a tuple needs at least 2"),
        ([TWO | {"scores": [1, 2]}, TWO], None, "line 2: some rows have scores and others do not"),
        ([TWO | {"scores": [1]}], None, "line 1: has 2 documents but 1 scores"),
        ([TWO | {"scores": [1, None]}], None, 'line 1: "scores" is not a list of finite numbers'),
        ([TWO | {"scores": [1, float("nan")]}], None, 'line 1: "scores" is not a list of finite numbers'),
        ([TWO, {"query_id": "q", "document_ids": ["a", "b"]}], None, "line 2: has ids, but line 1 has texts"),
        ([{"query_id": "q0", "document_ids": ["d0", "d1"]}], None, "line 1: has ids; name their collection"),
        ([{"about": {}}], None, "holds no tuples"),
    ],
)
def test_a_bad_line_is_told_with_its_place(tmp_path, rows, n_ways, line):
    file = jsonl(tmp_path / "t.jsonl", *rows)
    with pytest.raises(ProjheadsError) as error:
        read_tuples(file, n_ways=n_ways, collection=None)
    assert line in str(error.value)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"query_id": "x", "document_ids": ["d0", "d1"]}, 'line 1: set (train) has no judged query "x"'),
        ({"query_id": "q0", "document_ids": ["d0", "x"]}, 'line 1: set (train) has no document "x"'),
    ],
)
def test_an_id_that_the_collection_does_not_have(tmp_path, collection, row, line):
    with pytest.raises(ProjheadsError, match="line 1") as error:
        read_tuples(
            jsonl(tmp_path / "t.jsonl", row), n_ways=None, collection=open_collection(str(collection), split="train")
        )
    assert line in str(error.value)


def test_ids_of_another_state_of_the_collection_are_refused(tmp_path, collection):
    rows = [{"about": {"collection": "0"}}, {"query_id": "q0", "document_ids": ["d0", "d1"]}]
    with pytest.raises(ProjheadsError, match="made from a different version of set"):
        read_tuples(
            jsonl(tmp_path / "t.jsonl", *rows), n_ways=None, collection=open_collection(str(collection), split="train")
        )


def repository(folder, **configs):
    """Write a repository of the hub's layout: for each configuration the rows of its split `train`."""
    lines = ["---", "configs:"]
    for config, rows in configs.items():
        file = folder / config / "train.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        lines += [f"- config_name: {config}", "  data_files:", "  - split: train", f"    path: {config}/train.jsonl"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return str(folder)


DOCUMENTS = [{"document_id": f"{i}", "text": f"text {i}"} for i in range(8)]
QUERIES = [{"query_id": f"{i}", "text": f"question {i}"} for i in range(4)]
ROWS = [
    {"query_id": "2", "document_ids": ["7", "1", "5"], "scores": [0.5, 0.1, 0.9]},
    {"query_id": "0", "document_ids": ["1", "0", "3"], "scores": [1.0, 0.2, 0.3]},
]


def test_ids_of_the_hub_are_resolved_and_the_best_stands_first(tmp_path):
    repo = repository(tmp_path / "mine", train=ROWS, queries=QUERIES, documents=DOCUMENTS)
    tuples = read_hub_tuples(repo, None, split="train", n_ways=None)
    assert texts_of(tuples) == [
        ["question 2", "text 5", "text 7", "text 1"],
        ["question 0", "text 1", "text 0", "text 3"],
    ]
    assert np.allclose(tuples.scores, [[0.9, 0.5, 0.1], [1.0, 0.2, 0.3]])
    assert list(tuples.documents) == ["text 0", "text 1", "text 3", "text 5", "text 7"]
    assert tuples.documents[1:3] == ["text 1", "text 3"]
    two = read_hub_tuples(repo, None, split="train", n_ways=2)
    assert texts_of(two) == [row[:3] for row in texts_of(tuples)]
    assert np.allclose(two.scores, [[0.9, 0.5], [1.0, 0.2]])
    # Half of it, with the texts that are left.
    part = tuples.take(np.array([1]))
    assert texts_of(part) == texts_of(tuples)[1:]
    assert list(part.documents) == ["text 1", "text 0", "text 3"]


def test_triplets_of_the_hub(tmp_path):
    rows = [{"query": f"q{i}", "positive": f"p{i}", "negative": "n"} for i in range(3)]
    expected = [[f"q{i}", f"p{i}", "n"] for i in range(3)]
    repo = repository(tmp_path / "mine", triplet=rows, other=[{"a": 1}])
    assert texts_of(read_hub_tuples(repo, "triplet", split="train", n_ways=None)) == expected
    assert (
        texts_of(read_hub_tuples(repository(tmp_path / "b", default=rows), None, split="train", n_ways=2)) == expected
    )


FEWER = [ROWS[0], {**ROWS[1], "document_ids": ["1"], "scores": [1.0]}]
ANOTHER = [ROWS[0], {**ROWS[1], "document_ids": ["1", "9", "0"]}]


@pytest.mark.parametrize(
    ("changed", "n_ways", "line"),
    [
        ({"train": FEWER}, None, "row 2: has 1 documents, but row 1"),
        ({}, 4, "row 1: has 3 documents, but n_ways is 4"),
        ({"train": ANOTHER}, None, 'row 2: the configuration "documents" has no "9"'),
        ({"queries": QUERIES[:2]}, None, 'row 1: the configuration "queries" has no "2"'),
        ({"train": [ROWS[0], {**ROWS[1], "scores": [1.0]}]}, None, "row 2: has different numbers of scores"),
        ({"train": [ROWS[0], {**ROWS[1], "scores": [1.0, None, 0.5]}]}, None, "row 2: a score is missing"),
        ({"documents": [{"id": "1", "text": "x"}]}, None, 'documents: needs "document_id" and "text"'),
        ({"train": [{"query": "q", "else": "x"}]}, None, "row 1: a tuple has"),
    ],
)  # fmt: skip
def test_a_bad_row_of_the_hub(tmp_path, changed, n_ways, line):
    repo = repository(tmp_path / "mine", **{"train": ROWS, "queries": QUERIES, "documents": DOCUMENTS, **changed})
    with pytest.raises(ProjheadsError) as error:
        read_hub_tuples(repo, None, split="train", n_ways=n_ways)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def config(tmp_path, collection):
    def config(data, *overrides):
        text = "heads: {variants: [linear]}\ntrain: {batch_size: 2, validation_pairs: 0, data: pydocs}\n"
        (tmp_path / "c.yaml").write_text(text + "sweep: {}\neval: {datasets: [pydocs]}\n")
        return load_config(Path(tmp_path / "c.yaml"), [f"train.data={json.dumps(data)}", *overrides])

    return config


def mined(tmp_path, scores=True):
    rows = [{"query_id": f"q{i}", "document_ids": [f"d{i}", f"d{i + 2}", "d1"]} for i in range(2, 9)]
    rows.append({"query_id": "q0", "document_ids": ["d0", "d5", "d2"]})
    return jsonl(
        tmp_path / "mined.jsonl", *(row | ({"scores": [3, 2, i]} if scores else {}) for i, row in enumerate(rows))
    )


def test_training_data_of_tuples(config, tmp_path, collection):
    source = {"source": str(collection), "tuples": str(mined(tmp_path))}
    data = load_training_data(config(source))
    assert data.examples.shape == (8, 4)
    assert data.teacher_scores.tolist() == [[3, 2, i] for i in range(8)]
    assert [data.documents[int(row[1])] for row in data.examples] == [f"text {i}" for i in (*range(2, 9), 0)]
    # q0: d1 is judged relevant, and d2 is the first document of q2 but nothing to q0.
    last, first = data.examples[[7, 0]]
    marks = data.false_negatives(np.stack([last, first]))
    assert marks.tolist() == [[False, False, False, False, False, True], [False, False, True, False, False, False]]
    assert "8 training tuples of 3 documents with teacher scores" in data.describe(config(source).train.data)[0]

    shorter = load_training_data(config(source | {"n_ways": 2}))
    assert shorter.examples.shape == (8, 3)
    fewer = load_training_data(config(source, "train.max_pairs=4"))
    assert fewer.examples.shape == (4, 4)
    assert len(fewer.queries) == 4
    held_out = load_training_data(config(source, "train.validation_pairs=1"))
    assert held_out.validation.shape == (1, 2)
    assert held_out.validation[0, 1] not in held_out.examples[:, 1]
    assert len({d.hash for d in (data, shorter, fewer, held_out)}) == 4
    assert load_training_data(config(source)).hash == data.hash


def test_a_loss_that_needs_a_teacher_says_so_before_any_work(config, tmp_path, collection):
    source = {"source": str(collection), "tuples": str(mined(tmp_path, scores=False))}
    assert load_training_data(config(source)).teacher_scores is None
    for loss in ("kl", "margin-mse"):
        with pytest.raises(ProjheadsError, match=rf"{loss} needs teacher scores, and .*mined\.jsonl has none"):
            load_training_data(config(source, f"train.loss={loss}"))
        with pytest.raises(ProjheadsError, match=f"the loss {loss} needs teacher scores, which the pairs"):
            config(str(collection), f"train.loss={loss}")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "set `source`, a collection, or `tuples`"),
        ({"source": "pydocs", "n_ways": 3}, "n_ways needs `tuples`"),
        ({"tuples": "hf:one"}, "write hf:<owner>/<name>"),
        ({"tuples": "mine.csv"}, "neither a file.jsonl nor hf:"),
        ({"source": "pydocs", "tuples": "hf:a/b"}, "contain their texts; remove `source`"),
        ({"tuples": "a.jsonl", "n_ways": 1}, "greater than or equal to 2"),
        ({"tuples": "a.jsonl", "ways": 2}, "unknown key; known here: source, split, tuples, n_ways"),
    ],
)  # fmt: skip
def test_mistakes_in_the_configuration(config, data, words):
    with pytest.raises(ProjheadsError) as error:
        config(data)
    assert words in str(error.value)


def test_a_bare_file_is_tuples(config):
    assert config("a.jsonl").train.data.tuples == "a.jsonl"
    assert config("pydocs").train.data.source == "pydocs"
