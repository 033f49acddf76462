"""Folders in BEIR layout: what is read, what is counted, what is refused and with which line."""

import hashlib
import json
import re
from dataclasses import replace

import pytest
from beir.datasets.data_loader import GenericDataLoader
from hypothesis import given, settings
from hypothesis import strategies as st

from experiment.collections import Document, training_pairs, write_beir_folder
from experiment.collections.beir_folder import read_beir_folder
from projheads.errors import ProjheadsError

CORPUS = '{"_id": "d1", "title": "One", "text": "first"}\n{"_id": "d2", "title": "", "text": "second"}\n'
QUERIES = '{"_id": "q1", "text": "which?"}\n{"_id": "q2", "text": "what?"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\n"


def write(folder, corpus=CORPUS, queries=QUERIES, **qrels):
    """Write the files of a folder; text or bytes, None for no file."""
    files = {"corpus.jsonl": corpus, "queries.jsonl": queries}
    files |= {f"qrels/{split}.tsv": content for split, content in (qrels or {"test": QRELS}).items()}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_reads_what_the_files_say(tmp_path):
    collection = read_beir_folder(write(tmp_path / "small"), split="test")
    assert collection.name == "small"
    assert collection.split == "test"
    assert list(collection.corpus.values()) == [Document("d1", "One", "first"), Document("d2", "", "second")]
    assert collection.queries == {"q1": "which?", "q2": "what?"}
    assert collection.qrels == {"q1": {"d1": 1}, "q2": {"d2": 1}}
    assert collection.notes == {}
    assert [document.passage for document in collection.corpus.values()] == ["One first", "second"]


@pytest.mark.parametrize(
    "corpus",
    [
        "\ufeff" + CORPUS,
        CORPUS.replace("\n", "\r\n"),
        CORPUS.replace("\n", "\n\n  \n"),
        CORPUS.rstrip("\n"),
        CORPUS.replace('"text"', '"metadata": {"year": [1]}, "url": null, "text"'),
        CORPUS.replace('"title": "", ', ""),
        CORPUS.replace('"title": ""', '"title": null'),
        CORPUS.replace("first", "\\u0066irst"),
    ],
    ids=["bom", "crlf", "blank-lines", "no-end", "fields", "no-title", "null-title", "escape"],
)
def test_the_spelling_of_a_file_changes_nothing(tmp_path, corpus):
    collection = read_beir_folder(write(tmp_path, corpus=corpus), split="test", name="x")
    assert collection == read_beir_folder(write(tmp_path, corpus=CORPUS), split="test", name="x")


def test_ids_may_be_numbers(tmp_path):
    collection = read_beir_folder(
        write(
            tmp_path,
            corpus='{"_id": 7, "text": "a"}\n{"_id": "007", "text": "b"}\n',
            queries='{"_id": 1, "text": "c"}\n',
            test="query-id\tcorpus-id\tscore\n1\t7\t1\n1\t007\t2\n",
        ),
        split="test",
    )
    assert list(collection.corpus) == ["7", "007"]
    assert collection.qrels == {"1": {"7": 1, "007": 2}}
    assert collection.notes == {"graded_judgements": 1}


def test_a_string_may_hold_any_line_separator(tmp_path):
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\rh\ni\tj"
    write_beir_folder(tmp_path, [Document("d1", text, text)], {"q1": text}, {"test": {"q1": {"d1": 1}}})
    assert "\u2028" in (tmp_path / "corpus.jsonl").read_text(encoding="utf-8")
    collection = read_beir_folder(tmp_path, split="test")
    assert collection.corpus["d1"] == Document("d1", text, text)
    assert collection.queries["q1"] == text


def test_lone_surrogates_become_replacement_characters(tmp_path):
    corpus = '{"_id": "d1", "text": "a\\ud800b\\udc00 \\ud83d\\ude00"}\n'
    collection = read_beir_folder(write(tmp_path, corpus=corpus), split="test")
    assert collection.corpus["d1"].text == "a\ufffdb\ufffd \U0001f600"
    assert collection.notes["broken_characters"] == 2


def test_oddities_are_counted_and_survived(tmp_path):
    collection = read_beir_folder(
        write(
            tmp_path,
            corpus=CORPUS + '{"_id": "d 3", "title": null, "text": null}\n{"_id": "d4", "text": "\\n "}\n',
            queries=QUERIES
            + '{"_id": "q3", "text": ""}\n{"_id": "q4", "text": "train"}\n{"_id": "q5", "text": "never judged"}\n',
            test="query-id\tcorpus-id\tscore\n"
            "q1\td1\t1\nq1\td1\t1\n"  # repeated
            "q1\td2\t2\nq1\td2\t0\n"  # contradicting: the last holds
            "q1\tgone\t1\n"  # no such document
            "nobody\td1\t1\nnobody\td2\t1\n"  # no such query
            "q2\td1\t-1\nq2\td2\t0\n"  # nothing relevant
            "q3\td 3\t3\nq3\td4\t1.0\n",
            train="query-id\tcorpus-id\tscore\nq4\td1\t1\n",
        ),
        split="test",
    )
    assert collection.qrels == {
        "q1": {"d1": 1, "d2": 0, "gone": 1},
        "q2": {"d1": -1, "d2": 0},
        "q3": {"d 3": 3, "d4": 1},
    }
    assert list(collection.queries) == ["q1", "q2", "q3"]
    assert collection.notes == {
        "contradicting_judgements": 1,
        "empty_documents": 2,
        "empty_queries": 1,
        "graded_judgements": 1,
        "ids_with_spaces": 1,
        "judgements_of_missing_documents": 1,
        "judgements_of_missing_queries": 2,
        "negative_judgements": 1,
        "queries_without_judgements": 1,
        "queries_without_relevant_documents": 1,
        "repeated_judgements": 1,
    }
    assert training_pairs(collection) == [("q1", "d1")]


def test_qrels_without_header(tmp_path):
    collection = read_beir_folder(write(tmp_path, test="q1\td1\t1\nq2\td2\t2\n"), split="test")
    assert collection.qrels == {"q1": {"d1": 1}, "q2": {"d2": 2}}
    assert collection.notes == {"graded_judgements": 1, "qrels_without_header": 1}


def test_qrels_with_bom_crlf_and_another_header(tmp_path):
    collection = read_beir_folder(write(tmp_path, test="\ufeffqid\tdocid\trel\r\n\r\nq1\td1\t1\r\n"), split="test")
    assert collection.qrels == {"q1": {"d1": 1}}
    assert collection.notes == {"queries_without_judgements": 1}


def qrels(rows):
    return {"test": "query-id\tcorpus-id\tscore\n" + rows}


@pytest.mark.parametrize(
    "files, line",
    [
        (
            {"corpus": CORPUS + '{"_id": "d3", "text": \n'},
            "corpus.jsonl line 3: broken JSON: Expecting value at column",
        ),
        ({"queries": "\n" + QUERIES + "nonsense\n"}, "queries.jsonl line 4: broken JSON"),
        ({"corpus": '["d1", "text"]\n'}, 'corpus.jsonl line 1: ["d1", "text"] is not a JSON object'),
        ({"corpus": '{"text": "a"}\n'}, 'corpus.jsonl line 1: it has no "_id"'),
        ({"corpus": '{"_id": "", "text": "a"}\n'}, 'corpus.jsonl line 1: it has no "_id"'),
        ({"corpus": '{"_id": true, "text": "a"}\n'}, 'corpus.jsonl line 1: its "_id" is true'),
        ({"corpus": '{"_id": 1.5, "text": "a"}\n'}, 'corpus.jsonl line 1: its "_id" is 1.5'),
        ({"corpus": '{"_id": "d1", "text": NaN}\n'}, 'corpus.jsonl line 1: its "text" is NaN; write a string, or null'),
        ({"queries": '{"_id": "q1", "text": -Infinity}\n'}, 'queries.jsonl line 1: its "text" is -Infinity; write'),
        ({"corpus": '{"_id": "d1", "text": ["a"]}\n'}, 'corpus.jsonl line 1: its "text" is ["a"]; it must be a string'),
        ({"corpus": CORPUS + "\n" + CORPUS}, 'corpus.jsonl line 4: the id "d1" is already used on line 1'),
        ({"corpus": '{"_id": 1, "text": ""}\n{"_id": "1", "text": ""}'}, 'line 2: the id "1" is already used on'),
        ({"queries": QUERIES + QUERIES}, 'queries.jsonl line 3: the id "q1" is already used on line 1'),
        ({"corpus": CORPUS.encode() + b'{"_id": "\xff"}\n'}, "corpus.jsonl line 3: not UTF-8"),
        ({"corpus": ""}, "the corpus is empty"),
        ({"corpus": "\n\n"}, "the corpus is empty"),
        ({"corpus": None}, "not a folder in BEIR layout: it has no corpus.jsonl"),
        ({"queries": None}, "queries.jsonl: no such file"),
        ({"queries": ""}, 'the qrels of split "test" judge none of the queries'),
        ({"test": ""}, 'the qrels of split "test" judge none of the queries'),
        ({"train": QRELS, "dev": QRELS}, 'unknown split "test", no file qrels/test.tsv; its splits: dev, train'),
        (qrels("q1\td1\tabc\n"), 'qrels/test.tsv line 2: the grade "abc" is not a number'),
        (qrels("q1\td1\t0.5\n"), 'qrels/test.tsv line 2: the grade "0.5" is not an integer'),
        (qrels("q1\td1\tnan\n"), 'qrels/test.tsv line 2: the grade "nan" is not an integer'),
        (qrels("q1\td1\tinf\n"), 'qrels/test.tsv line 2: the grade "inf" is not an integer'),
        (qrels("q1\td1\t\n"), 'qrels/test.tsv line 2: the grade "" is not a number'),
        ({"test": "q1\td1\t0.5\n"}, 'qrels/test.tsv line 1: the grade "0.5" is not an integer'),
        ({"test": "q1\t0\td1\t1\n"}, "qrels/test.tsv line 1: four columns, as in TREC qrels"),
        ({"test": "q1 0 d1 1\n"}, "qrels/test.tsv line 1: four columns, as in TREC qrels"),
        (qrels("q1 d1 1\n"), "qrels/test.tsv line 2: 1 column; expected three columns separated by tabs"),
        (qrels("q1\td1\n"), "qrels/test.tsv line 2: 2 columns; expected three columns separated by tabs"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, files, line):
    with pytest.raises(ProjheadsError, match=re.escape(line)) as error:
        read_beir_folder(write(tmp_path, **files), split="test")
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_no_split_at_all(tmp_path):
    (tmp_path / "corpus.jsonl").write_text(CORPUS)
    with pytest.raises(ProjheadsError, match=r'unknown split "test", no file qrels/test.tsv; it has no splits'):
        read_beir_folder(tmp_path, split="test")


IDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=5).filter(str.strip)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)


@st.composite
def collections(draw):
    corpus = draw(st.dictionaries(IDS, st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
    queries = draw(st.dictionaries(IDS, TEXTS, min_size=1, max_size=4))
    grades = st.dictionaries(st.sampled_from(sorted(corpus)), st.integers(-2, 4), min_size=1)
    judged = {query: draw(grades) for query in queries}
    return [Document(key, title, text) for key, (title, text) in corpus.items()], queries, judged


@settings(max_examples=60, deadline=None)
@given(content=collections())
def test_what_is_written_is_read_by_us_and_by_beir(tmp_path_factory, content):
    corpus, queries, judged = content
    folder = tmp_path_factory.mktemp("written")
    write_beir_folder(folder, corpus, queries, {"test": judged})
    ours = read_beir_folder(folder, split="test")
    assert list(ours.corpus.values()) == corpus
    assert ours.queries == queries
    assert ours.qrels == judged
    beir_corpus, beir_queries, beir_qrels = GenericDataLoader(str(folder)).load(split="test")
    assert beir_corpus == {document.id: {"title": document.title, "text": document.text} for document in corpus}
    assert (beir_queries, beir_qrels) == (ours.queries, ours.qrels)


def test_the_hash_does_not_depend_on_order_place_or_split_name(tmp_path):
    collection = read_beir_folder(write(tmp_path / "a"), split="test")
    turned = {name: "".join(reversed(text.splitlines(keepends=True))) for name, text in (("c", CORPUS), ("q", QUERIES))}
    other = write(tmp_path / "b", turned["c"], turned["q"], dev="query-id\tcorpus-id\tscore\nq2\td2\t1\nq1\td1\t1\n")
    assert read_beir_folder(other, split="dev").hash == collection.hash


def test_the_hash_depends_on_all_content(tmp_path):
    documents = [Document("d1", "ab", "c"), Document("d2", "", "x")]
    base = (documents, {"q1": "q", "q2": "r"}, {"q1": {"d1": 1}, "q2": {"d2": 1}})
    variants = [
        base,
        ([replace(documents[0], title="a", text="bc"), documents[1]], *base[1:]),
        ([replace(documents[0], id="d3"), documents[1]], *base[1:]),
        (documents[:1], *base[1:]),
        (documents, {"q1": "other", "q2": "r"}, base[2]),
        (*base[:2], {"q1": {"d1": 2}, "q2": {"d2": 1}}),
        (*base[:2], {"q1": {"d1": 1, "d2": 0}, "q2": {"d2": 1}}),
        (*base[:2], {"q1": {"d1": 1}}),
    ]
    hashes = set()
    for number, (corpus, queries, judged) in enumerate(variants):
        write_beir_folder(tmp_path / str(number), corpus, queries, {"test": judged})
        hashes.add(read_beir_folder(tmp_path / str(number), split="test").hash)
    assert len(hashes) == len(variants)


def test_the_hash_of_a_known_collection(tmp_path):
    """By hand: every field after its length in bytes, records by id."""
    text = "8:document2:d13:One5:first8:document2:d20:6:second"
    text += "5:query2:q16:which?5:query2:q25:what?"
    text += "9:judgement2:q12:d11:19:judgement2:q22:d21:1"
    assert read_beir_folder(write(tmp_path), split="test").hash == hashlib.sha256(text.encode()).hexdigest()


def test_writing_gives_the_same_bytes(tmp_path):
    corpus, queries, judged = [Document("d1", "é", '"x"\t')], {"q1": "ü"}, {"test": {"q1": {"d1": 1}}}
    for folder in (tmp_path / "a", tmp_path / "b"):
        write_beir_folder(folder, corpus, queries, judged)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "a" / "corpus.jsonl").read_bytes()) == {"_id": "d1", "title": "é", "text": '"x"\t'}
