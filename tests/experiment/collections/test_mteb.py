"""Tasks of mteb: the datasets library reads folders of each layout instead of their repositories."""

import datasets
import huggingface_hub
import pytest

from experiment.collections import check_source, hub, official_split, open_collection, suite_notes
from experiment.collections.mteb_tasks import MTEB_TASKS, MtebTask
from experiment.collections.suites import suite_group, suite_sources
from projheads.errors import ProjheadsError
from tests.experiment.collections.test_hub import repository


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    datasets.disable_progress_bars()


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Replace a task's repository by a folder."""

    def stand_in(name, **tables):
        task = MTEB_TASKS[name]
        repo = repository(tmp_path / "repo", **tables)
        monkeypatch.setitem(
            MTEB_TASKS, name, MtebTask(repo, task.revision, task.split, task.layout, task.config, None, task.subset)
        )
        return open_collection(f"mteb:{name}", split=task.split)

    return stand_in


def test_lotte_is_read_part_by_part(stand_in):
    corpus = {
        split: [{"_id": "0", "text": f"a {split} text"}, {"_id": "1", "text": "other"}] for split in ("test", "dev")
    }
    found = stand_in(
        "LoTTE/science_forum",
        **{
            "science_forum-corpus": corpus,
            "science_forum-queries": {split: [{"_id": "0", "text": "what?"}] for split in ("test", "dev")},
            "science_forum-qrels": {
                split: [{"query-id": "0", "corpus-id": "1", "score": 1}] for split in ("test", "dev")
            },
            "writing_search-corpus": corpus,
        },
    )
    assert [document.text for document in found.corpus.values()] == ["a test text", "other"]
    assert found.qrels == {"0": {"1": 1}}


def test_limit_is_read_as_its_repository_has_it(stand_in):
    found = stand_in(
        "LIMITRetrieval",
        corpus={"corpus": [{"_id": "Ann", "title": "", "text": "Ann likes tea."}]},
        queries={"queries": [{"_id": "query_0", "text": "Who likes tea?"}]},
        default={"test": [{"query-id": "query_0", "corpus-id": "Ann", "score": 1}]},
    )
    assert found.qrels == {"query_0": {"Ann": 1}}


def test_bright_is_a_split_of_documents_and_examples(stand_in):
    texts = [{"id": f"d{i}", "content": f"text {i}"} for i in range(3)]
    example = {"id": "0", "query": "why?", "gold_ids": ["d1", "d2"], "gold_ids_long": ["N/A"]}
    found = stand_in(
        "BrightLeetcodeRetrieval",
        documents={"biology": texts[:1], "leetcode": texts},
        examples={"biology": [example | {"excluded_ids": ["N/A"]}], "leetcode": [example | {"excluded_ids": ["d0"]}]},
    )
    assert list(found.corpus) == ["d0", "d1", "d2"]
    assert found.queries == {"0": "why?"}
    assert found.qrels == {"0": {"d1": 1, "d2": 1}}
    assert found.notes == {"documents_excluded_by_the_collection": 1}
    assert found.excluded == {"0": {"d0"}}
    everything = stand_in(
        "BrightLeetcodeRetrieval",
        documents={"leetcode": texts},
        examples={"leetcode": [example | {"excluded_ids": ["N/A"]}]},
    )
    assert everything.excluded == {}
    assert everything.hash != found.hash


@pytest.mark.parametrize(("name", "texts"), [("LEMBNeedleRetrieval/512", 1), ("LEMBQMSumRetrieval", 2)])
def test_longembed_is_one_config_with_a_file_per_table(tmp_path, monkeypatch, name, texts):
    lengths = (256, 512)
    tables = {
        "corpus": [{"doc_id": f"d{n}", "text": f"long {n}", "context_length": n} for n in lengths],
        "queries": [{"qid": f"q{n}", "text": f"which {n}", "context_length": n} for n in lengths],
        "qrels": [{"qid": f"q{n}", "doc_id": f"d{n}", "context_length": n} for n in lengths],
    }
    task = MTEB_TASKS[name]
    repo = repository(tmp_path / "repo", **{str(task.config): tables})
    monkeypatch.setitem(MTEB_TASKS, name, MtebTask(repo, task.revision, task.split, task.layout, task.config))
    found = open_collection(f"mteb:{name}", split=task.split)
    assert len(found.corpus) == len(found.queries) == texts
    assert found.qrels["q512"] == {"d512": 1}


def test_passkey_has_a_split_for_each_length(stand_in):
    tables = {
        name: {f"test_{n}": [{"_id": f"x{n}", "text": str(n)}] for n in (256, 512)} for name in ("corpus", "queries")
    }
    judged = {f"test_{n}": [{"query-id": f"x{n}", "corpus-id": f"x{n}", "score": 1}] for n in (256, 512)}
    found = stand_in("LEMBPasskeyRetrieval/512", **tables, default=judged)
    assert list(found.corpus) == ["x512"]


def test_the_pinned_revision_is_what_is_loaded(monkeypatch):
    asked = []

    def load_dataset(repo, config, *, revision):
        asked.append((repo, config, revision))
        raise ConnectionError

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    def download(repo, file, *, repo_type, revision):
        asked.append((repo, file, revision))
        raise huggingface_hub.errors.LocalEntryNotFoundError("no")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    for name in ("SciFact", "BrightPonyRetrieval", "LEMBWikimQARetrieval"):
        with pytest.raises(ProjheadsError, match="the hub cannot be reached"):
            open_collection(f"mteb:{name}", split=MTEB_TASKS[name].split)
    assert [revision for _, _, revision in asked] == [
        "d56462d0e63a25450459c4f213e49ffdb866f7f9",
        "c26703e6600d97c579ee2985f16cf307db13ed85",
        "6e346642246bfb4928c560ee08640dc84d074e8c",
    ]


def test_the_suites_of_tasks():
    sizes = {name: len(suite_sources(name)) for name in ("bright", "limit", "longembed", "lotte", "mteb-eng")}
    assert sizes == {"bright": 12, "limit": 2, "longembed": 4 + 16, "lotte": 10, "mteb-eng": 10}
    for name in sizes:
        for source in suite_sources(name):
            assert "not on this disk yet" in check_source(source)
        (note,) = suite_notes(suite_sources(name))
        assert note.startswith(f"suite {name}: ")
    groups = {suite_group(source) for source in suite_sources("longembed")}
    assert groups == {None, "LEMBNeedleRetrieval", "LEMBPasskeyRetrieval"}
    assert official_split("mteb:LEMBSummScreenFDRetrieval") == "validation"
    assert hub.parse_hub_name(MTEB_TASKS["LIMITRetrieval"].repo) == ("orionweller/LIMIT", None)


def test_an_unknown_task_is_named():
    with pytest.raises(ProjheadsError, match=r'unknown mteb task "SciFakt".*did you mean "SciFact"'):
        check_source("mteb:SciFakt")
