"""A corpus in an Arrow file is the same collection as in memory, and reads only what is asked for."""

import json

import pytest

import experiment.collections.beir_folder as folder_module
import experiment.collections.large_corpus as large_module
from experiment.collections import list_ids, list_passages, open_collection
from experiment.collections.large_corpus import LargeCorpus
from projheads.errors import ProjheadsError

IDS = ["b", "a", "é😀", "10", "9", "white space", "100%20", "Z", "~", "\U0001f600", "￿"]


def write(folder, records):
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    (folder / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "which"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\nq\tgone\t1\n")


def records():
    odd = [{"_id": name, "title": name.upper(), "text": f"text of {name}"} for name in IDS]
    odd += [{"_id": 7, "text": None}, {"_id": "copy", "text": "A text of a"}, {"_id": "half", "text": "a \ud83d b"}]
    return odd + [{"_id": f"d{number}", "text": f"{number} words"} for number in range(40)]


@pytest.fixture(params=[1, 3, 1000])
def both(request, tmp_path, monkeypatch):
    """The same folder in memory, and as an Arrow file with so many documents to a batch."""
    write(tmp_path / "set", records())
    cache = tmp_path / "cache"
    small = open_collection(str(tmp_path / "set"), split="test", cache=cache)
    monkeypatch.setattr(large_module, "BATCH", request.param)
    monkeypatch.setattr(folder_module, "LARGE", 0)
    large = open_collection(str(tmp_path / "set"), split="test", cache=cache)
    assert isinstance(large.corpus, LargeCorpus)
    assert not isinstance(small.corpus, LargeCorpus)
    return small, large


def test_it_is_the_same_collection(both, tmp_path):
    small, large = both
    assert (large.hash, large.notes) == (small.hash, small.notes)
    assert large.notes["broken_characters"] == 1
    assert list(large.corpus) == list(small.corpus)
    assert list(large.corpus.values()) == list(small.corpus.values())
    assert list(large.corpus.items()) == list(small.corpus.items())
    for name in small.corpus:
        assert large.corpus[name] == small.corpus[name]
    assert [name for name in ("a", "gone", "", "7", "\ud800") if name in large.corpus] == ["a", "7"]
    again = open_collection(str(tmp_path / "set"), split="test", cache=tmp_path / "cache")
    assert (again.hash, again.notes) == (small.hash, small.notes)


def test_its_texts_are_sequences(both):
    small, large = both
    for read in (list_ids, list_passages):
        expected, found = read(small.corpus), read(large.corpus)
        assert list(found) == list(expected)
        assert len(found) == len(expected)
        assert [found[place] for place in (0, 5, -1)] == [expected[place] for place in (0, 5, -1)]
        assert found[3:8] == expected[3:8]
        assert found[50:99] == expected[50:99]
        with pytest.raises(IndexError):
            found[len(expected)]


def test_ids_with_one_hash_are_distinguished(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "LARGE", 0)
    monkeypatch.setattr(large_module, "id_hash", lambda name: len(name) % 2)
    write(tmp_path / "set", records())
    corpus = open_collection(str(tmp_path / "set"), split="test", cache=tmp_path / "cache").corpus
    assert all(corpus[name].id == name for name in IDS)
    assert "gone" not in corpus


def test_a_repeated_id_is_the_error_of_a_small_corpus(tmp_path, monkeypatch):
    write(tmp_path / "set", [*records(), {"_id": "a", "text": "again"}])
    errors = []
    for size in (2**60, 0):
        monkeypatch.setattr(folder_module, "LARGE", size)
        with pytest.raises(ProjheadsError) as error:
            open_collection(str(tmp_path / "set"), split="test", cache=tmp_path / "cache")
        errors.append(str(error.value))
    assert errors[0] == errors[1]
    assert 'line 55: the id "a" is already used on line 2' in errors[0]
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_a_changed_file_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "LARGE", 0)
    write(tmp_path / "set", records())
    first = open_collection(str(tmp_path / "set"), split="test", cache=tmp_path / "cache")
    write(tmp_path / "set", [*records(), {"_id": "new", "text": "one more"}])
    second = open_collection(str(tmp_path / "set"), split="test", cache=tmp_path / "cache")
    assert len(second.corpus) == len(first.corpus) + 1


@pytest.mark.parametrize("name", ["corpus.arrow", "order.npy", "notes.json"])
@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY" * 9])
def test_damaged_files_are_one_line_that_says_what_to_delete(tmp_path, monkeypatch, name, content):
    monkeypatch.setattr(folder_module, "LARGE", 0)
    write(tmp_path / "set", records())
    open_collection(str(tmp_path / "set"), split="test", cache=tmp_path / "cache")
    (damaged,) = (tmp_path / "cache").rglob(name)
    damaged.unlink() if content is None else damaged.write_bytes(content)
    with pytest.raises(ProjheadsError) as error:
        open_collection(str(tmp_path / "set"), split="test", cache=tmp_path / "cache")
    assert str(damaged.parent) in str(error.value)
    assert "\n" not in str(error.value)
