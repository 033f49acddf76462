"""Folders in BEIR layout that are damaged at random: each is read as a collection, or refused in one line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment.collections import Document, open_collection, training_pairs, write_beir_folder
from projheads.errors import ProjheadsError
from tests.fuzz import fuzz

FILES = ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"]
JUNK = [
    b"\xff",
    b"\x00",
    b"\n",
    b"\r",
    b"\t",
    b'"',
    b"{",
    b"}",
    b"[",
    b",",
    b"NaN",
    b"1e999",
    b"-1",
    b"\\ud800",
    b"null",
    b"{}",
]
JUNK += [b"[" * 5000, b"9" * 400, "\u2028\u00a0\ufeff".encode(), b'{"_id": {}, "text": []}\n', b"a\tb\tc\td\n", b" "]

DAMAGE = st.tuples(st.sampled_from(FILES), st.sampled_from(["insert", "replace", "cut", "repeat"]), st.floats(0, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "set"
    corpus = [Document(f"d{i}", "title", f"text {i}") for i in range(4)]
    qrels = {f"q{i}": {f"d{i}": 1, "d3": 0} for i in range(3)}
    write_beir_folder(folder, corpus, {f"q{i}": f"question {i}" for i in range(3)}, {"test": qrels})
    return folder, {name: (folder / name).read_bytes() for name in FILES}


def damaged(content, how, where, junk):
    at = int(where * len(content))
    if how == "cut":
        return content[:at]
    if how == "repeat":
        return content + content[at:]
    return content[:at] + junk + content[at + (len(junk) if how == "replace" else 0) :]


@fuzz(60)
@given(st.lists(st.tuples(DAMAGE, st.sampled_from(JUNK)), min_size=1, max_size=4))
def test_a_damaged_folder_is_a_collection_or_one_line(folder, damages):
    path, content = folder
    files = dict(content)
    for (name, how, where), junk in damages:
        files[name] = damaged(files[name], how, where, junk)
    for name, data in files.items():
        (path / name).write_bytes(data)
    collection = refused = None
    try:
        collection = open_collection(str(path), split="test", cache=path.parent)
    except ProjheadsError as error:
        refused = str(error)
    if collection is None:
        assert "\n" not in refused
        assert str(path) in refused
        return
    # What is read is consistent, and can be written as JSON and UTF-8.
    assert collection.queries.keys() == collection.qrels.keys() != set()
    assert all(isinstance(grade, int) for grades in collection.qrels.values() for grade in grades.values())
    assert all(collection.corpus[document].passage for _, document in training_pairs(collection))
    json.dumps([[one.id, one.title, one.text] for one in collection.corpus.values()], ensure_ascii=False).encode(
        "utf-8"
    )
    assert all(count > 0 for count in collection.notes.values())
