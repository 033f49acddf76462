import pytest

from experiment.collections.mteb_tasks import MTEB_TASKS, find_task, task_of_source
from experiment.collections.sources import check_source
from projheads.errors import UnknownNameError


def test_the_table_is_that_of_mteb():
    mteb = pytest.importorskip("mteb")
    for name, task in MTEB_TASKS.items():
        metadata = mteb.get_task(name.partition("/")[0]).metadata
        assert (metadata.dataset["path"], metadata.dataset["revision"]) == (task.repo, task.revision), name
        assert task.split in metadata.eval_splits, name
        if task.layout == "longembed":
            assert metadata.dataset["name"] == task.config
        if task.subset != "default":
            assert task.subset in metadata.eval_langs


def test_sources_that_have_the_same_data_exist():
    for task in MTEB_TASKS.values():
        if task.same_as:
            check_source(task.same_as)


def test_a_task_is_found_by_its_name_and_by_the_source_of_its_data():
    assert task_of_source("beir:scifact") == "SciFact"
    assert task_of_source("nano:quoraretrieval") == "NanoQuoraRetrieval"
    assert task_of_source("mteb:LoTTE/writing_forum") == "LoTTE/writing_forum"
    assert task_of_source("data/my") is None
    assert find_task("BrightTheoremQATheoremsRetrieval").config == "theoremqa_theorems"
    assert find_task("BrightEarthScienceRetrieval").config == "earth_science"
    with pytest.raises(UnknownNameError, match=r'unknown mteb task "SciFac".*did you mean "SciFact"'):
        find_task("SciFac")
