"""Data sets of the hub: the datasets library reads folders of the hub's layout instead of repositories."""

import json

import datasets
import httpx
import pytest

from experiment.collections import Document, hub, open_collection, write_beir_folder
from experiment.collections.beir_folder import read_beir_folder
from experiment.collections.hub import open_hub
from projheads.errors import ProjheadsError

CORPUS = [{"_id": "d1", "title": "One", "text": "first"}, {"_id": "d2", "title": "", "text": "second"}]
QUERIES = [{"_id": "q1", "text": "which?"}, {"_id": "q2", "text": "what?"}, {"_id": "q3", "text": "train"}]
TEST = [{"query-id": "q1", "corpus-id": "d1", "score": 1}, {"query-id": "q2", "corpus-id": "d2", "score": 2}]
TRAIN = [{"query-id": "q3", "corpus-id": "d2", "score": 1}]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    datasets.disable_progress_bars()


def repository(folder, **configs):
    """Write a repository: for each configuration the splits, and their rows."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, rows in splits.items():
            file = folder / config / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
            lines += [f"  - split: {split}", f"    path: {config}/{split}.jsonl"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return str(folder)


def test_qrels_in_a_repository_of_their_own(tmp_path):
    repo = repository(tmp_path / "mine", corpus={"corpus": CORPUS}, queries={"queries": QUERIES})
    repository(tmp_path / "mine-qrels", default={"test": TEST, "train": TRAIN})
    collection = open_hub(repo, split="test")
    assert list(collection.corpus.values()) == [Document("d1", "One", "first"), Document("d2", "", "second")]
    assert collection.queries == {"q1": "which?", "q2": "what?"}
    assert collection.qrels == {"q1": {"d1": 1}, "q2": {"d2": 2}}
    assert collection.notes == {"graded_judgements": 1}


@pytest.mark.parametrize("config", ["qrels", "default"])
def test_qrels_in_a_configuration(tmp_path, config):
    tables = {"corpus": {"corpus": CORPUS}, "queries": {"queries": QUERIES}, config: {"test": TEST, "train": TRAIN}}
    collection = open_hub(repository(tmp_path / "mine", **tables), split="train")
    assert collection.qrels == {"q3": {"d2": 1}}
    assert collection.notes == {}


def test_one_data_set_of_many(tmp_path):
    german = [{"id": 5, "text": "erste"}]
    tables = {
        "de-corpus": {"test": german, "dev": [{"id": 6, "text": "zweite"}]},
        "de-queries": {"test": QUERIES, "dev": QUERIES},
        "de-qrels": {"test": [{"query-id": "q1", "corpus-id": 5}]},
        "fr-corpus": {"test": CORPUS},
    }
    collection = open_hub(repository(tmp_path / "mine", **tables), split="test", config="de")
    assert collection.corpus == {"5": Document("5", "", "erste")}
    assert collection.qrels == {"q1": {"5": 1}}
    assert collection.name.endswith("mine/de")


def test_the_hash_is_that_of_the_same_content_in_a_folder(tmp_path):
    repo = repository(tmp_path / "mine", corpus={"a": CORPUS}, queries={"b": QUERIES}, qrels={"test": TEST})
    write_beir_folder(
        tmp_path / "folder",
        [Document(row["_id"], row["title"], row["text"]) for row in CORPUS],
        {row["_id"]: row["text"] for row in QUERIES},
        {"test": {"q1": {"d1": 1}, "q2": {"d2": 2}}},
    )
    assert open_hub(repo, split="test").hash == read_beir_folder(tmp_path / "folder", split="test").hash


@pytest.mark.parametrize(
    "changed, line",
    [
        ({"qrels": {"train": TRAIN, "dev": TRAIN}}, 'unknown split "test"; its splits: dev, train'),
        (
            {"qrels": {"test": [{"query-id": "q1", "doc": "d1", "score": 1}]}},
            "column 'corpus-id' is missing; it has query-id, doc",
        ),
        ({"qrels": {"test": [{**TEST[0], "score": 0.5}]}}, 'qrels row 1: the grade "0.5" is not an integer'),
        ({"corpus": {"corpus": [*CORPUS, CORPUS[0]]}}, 'corpus row 3: the id "d1" is already used on row 1'),
        ({"corpus": {"a": CORPUS, "b": CORPUS}}, '"corpus" has several splits: a, b'),
        ({"queries": {"queries": [{"text": "x"}]}}, 'queries row 1: it has no "_id"'),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, changed, line):
    tables = {"corpus": {"corpus": CORPUS}, "queries": {"queries": QUERIES}, "qrels": {"test": TEST}}
    with pytest.raises(ProjheadsError) as error:
        open_hub(repository(tmp_path / "mine", **{**tables, **changed}), split="test")
    assert line in str(error.value)
    assert str(tmp_path / "mine") in str(error.value)
    assert "\n" not in str(error.value)


def test_another_layout(tmp_path):
    repo = repository(tmp_path / "mine", default={"train": QUERIES}, other={"train": QUERIES})
    with pytest.raises(ProjheadsError, match=r"'corpus' not found\. Available: .*default.*other"):
        open_hub(repo, split="test")


@pytest.mark.parametrize(
    "raised, line",
    [
        (ConnectionError("Couldn't reach it\nat all"), "the hub cannot be reached"),
        (httpx.ReadTimeout("slow"), "the hub cannot be reached"),
        (datasets.exceptions.DatasetNotFoundError("x"), "not on the hub, or private"),
        (RuntimeError("Dataset scripts are no longer supported\nbut"), "Dataset scripts are no longer supported"),
    ],
)
def test_what_goes_wrong_on_the_way_is_one_line(monkeypatch, raised, line):
    def load(repo, config, revision=None):
        raise raised

    monkeypatch.setattr(hub, "load_splits", load)
    with pytest.raises(ProjheadsError) as error:
        open_collection("hf:someone/thing", split="test")
    assert str(error.value).startswith(f"hf:someone/thing: {line}")
    assert "\n" not in str(error.value)


def test_repository_and_config_are_read_from_the_source(monkeypatch):
    tables = {"de-corpus": {"corpus": CORPUS}, "de-queries": {"queries": QUERIES}, "de-qrels": {"test": TEST}}
    asked = []

    def load(repo, config, revision=None):
        asked.append((repo, config))
        return tables[config]

    monkeypatch.setattr(hub, "load_splits", load)
    assert open_collection("hf:someone/thing/de", split="test").name == "someone/thing/de"
    assert asked == [("someone/thing", config) for config in tables]
