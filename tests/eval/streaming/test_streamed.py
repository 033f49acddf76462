"""One pass over a corpus ends with the bytes of the stored way, in one process or several, killed or not."""

import json
import multiprocessing
import os
import random
import shutil
import time
from pathlib import Path

import pytest
import torch

import eval.embed as embed_module
import experiment.encoding.windows as windows_module
from eval.evaluate import evaluate_experiment
from eval.streaming import corpus_pass
from experiment.console.progress import Progress
from experiment.disk.models import weights_hash
from experiment.disk.records import EvaluationRecord
from projheads.errors import ProjheadsError
from projheads.hosts.head_files import load_head, save_head
from tests.eval.conftest import OUT, WIDTH
from tests.eval.streaming.workers import command
from tests.fuzz import FACTOR

STREAMED = "eval.corpus=streamed"


def evaluate(config):
    with Progress() as progress:
        evaluate_experiment(config, progress)


def steady(value):
    if isinstance(value, dict):
        return {key: steady(one) for key, one in value.items() if key not in ("timings", "key")}
    return value


def results(miniature):
    """Every run file and every record without what differs from one moment to the next."""
    path = miniature.folder.path
    runs = {file.relative_to(path).as_posix(): file.read_bytes() for file in path.glob("*/*/seed-*/eval/*.run")}
    records = {
        file.relative_to(path).as_posix(): steady(json.loads(file.read_text()))
        for file in path.glob("*/*/seed-*/eval/*.json")
    }
    assert runs
    return runs | records


def forget(miniature):
    for folder in miniature.folder.path.glob("*/*/seed-*/eval"):
        shutil.rmtree(folder)
    shutil.rmtree(miniature.config().cache)


def both_ways(miniature, *overrides):
    """Results of the stored way, then of the streamed way without anything that the first left behind."""
    found = []
    for way in ("eval.corpus=stored", STREAMED):
        evaluate(miniature.config(way, *overrides))
        found.append(results(miniature))
        forget(miniature)
    return found


@pytest.mark.parametrize(("window", "rows"), [(3, 2**20), (7, 20), (4096, 9), (4096, 2**20)])
@pytest.mark.parametrize("vectors", ["fp16", "fp32"])
def test_a_pass_ends_with_the_bytes_of_the_stored_way(miniature, monkeypatch, window, rows, vectors):
    monkeypatch.setattr(windows_module, "WINDOW", window)
    monkeypatch.setattr(windows_module, "SLICE", rows)
    stored, streamed = both_ways(miniature, f"eval.vectors={vectors}", "eval.depth=5", "eval.measures=[nDCG@5]")
    assert streamed == stored
    assert len(stored) == 16


def test_a_window_is_in_a_file_if_its_texts_are_large_after_truncation(miniature, monkeypatch):
    opened, opens = [], embed_module.unnamed_file
    monkeypatch.setattr(embed_module, "unnamed_file", lambda folder: opened.append(folder) or opens(folder))
    monkeypatch.setattr(embed_module, "WINDOW_IN_MEMORY", 0)
    evaluate(miniature.config(STREAMED))
    in_files, count = results(miniature), len(opened)
    forget(miniature)
    opened.clear()
    monkeypatch.setattr(embed_module, "WINDOW_IN_MEMORY", 10**6)
    monkeypatch.setattr(embed_module, "CHARACTERS_PER_TOKEN", 1e-6)
    evaluate(miniature.config(STREAMED))
    assert results(miniature) == in_files
    assert len(opened) < count


class Limit(int):
    """A limit that notes what is compared with it."""

    def __lt__(self, other):
        self.seen.append(other)
        return False


def test_the_size_of_a_window_is_that_of_the_vectors_it_keeps(miniature, monkeypatch, retrain):
    """Token states of a frozen backbone, embeddings of a trained one, in their data type."""

    def size(*overrides):
        limit = Limit()
        limit.seen = []
        monkeypatch.setattr(embed_module, "WINDOW_IN_MEMORY", limit)
        evaluate(miniature.config(STREAMED, "eval.references=[]", *overrides))
        forget(miniature)
        (found,) = set(limit.seen)
        return found

    frozen = size()
    assert size("eval.vectors=fp32") == 2 * frozen
    shutil.rmtree(miniature.folder.path)
    retrain(miniature.config("train.trainable=all"))
    assert size("train.trainable=all") == frozen * OUT / WIDTH


def test_trained_backbones_go_the_same_way(miniature, monkeypatch, retrain):
    monkeypatch.setattr(windows_module, "WINDOW", 5)
    shutil.rmtree(miniature.folder.path)
    config = miniature.config("train.trainable=all")
    retrain(config)
    stored, streamed = both_ways(miniature, "train.trainable=all")
    assert streamed == stored


def test_storage_forms_go_the_same_way_where_the_sample_is_the_corpus(miniature, monkeypatch):
    monkeypatch.setattr(windows_module, "WINDOW", 4)
    stored, streamed = both_ways(miniature, "eval.storage=[fp16,int8,dim4,centred-pool2-int4,hamming]")
    assert streamed == stored


def test_a_sample_is_in_the_keys_and_records_of_what_is_fitted_on_it(miniature, monkeypatch):
    config = ("eval.index=exact", "eval.storage=[int8,dim4]", "eval.references=[]")
    found = []
    for way, sample in (("stored", 1024), ("streamed", 1024), ("streamed", 9)):
        for module in ("eval.sample", "eval.evaluation_record"):
            monkeypatch.setattr(f"{module}.SAMPLE", sample)
        evaluate(miniature.config(f"eval.corpus={way}", *config))
        trials = [miniature.folder.trial(slug, 0) for slug in ("linear", "ffn-activation=gelu")]
        found.append([EvaluationRecord.read(trial.eval_json("odd")) for trial in trials])
        evaluate(miniature.config("eval.corpus=stored", *config))  # Finds nothing to do.
        assert found[-1] == [EvaluationRecord.read(trial.eval_json("odd")) for trial in trials]
        forget(miniature)
    stored, everything, sampled = found
    assert [one.key for one in everything] == [one.key for one in stored]
    assert [one.storage for one in everything] == [one.storage for one in stored]
    assert [one.key == other.key for one, other in zip(sampled, stored, strict=True)] == [True, False]
    assert sampled[1].linearised.fitted_on.endswith("sampled from 9 of 31 documents")
    assert [sampled[0].storage[form].sample for form in ("int8", "dim4")] == [9, None]
    assert sampled[0].storage["int8"].key != stored[0].storage["int8"].key
    assert sampled[0].storage["dim4"] == stored[0].storage["dim4"]


def test_an_automatic_index_is_exact_in_a_pass_and_has_the_key_of_exact_search(miniature):
    keys = []
    for settings in (["eval.corpus=stored", "eval.index=exact"], [STREAMED, "eval.index=auto"]):
        evaluate(miniature.config(*settings, "eval.references=[]"))
        keys.append(EvaluationRecord.read(miniature.folder.trial("linear", 0).eval_json("odd")).key)
        forget(miniature)
    assert keys[0] == keys[1]


def test_a_pass_keeps_no_vector_of_a_document(miniature, monkeypatch):
    monkeypatch.setattr(windows_module, "WINDOW", 6)
    evaluate(miniature.config(STREAMED))
    cache = miniature.config().cache
    assert [file for file in cache.rglob("vectors.bin") if "queries" in file.parent.name]
    assert not [file for file in cache.rglob("*") if "documents" in file.name]
    assert not list(cache.glob("passes/*/*/"))


def test_a_chunk_may_have_several_windows(miniature, monkeypatch):
    monkeypatch.setattr(windows_module, "WINDOW", 2)
    monkeypatch.setattr(corpus_pass, "MOST_CHUNKS", 4)
    stored, streamed = both_ways(miniature, "eval.references=[]")
    assert streamed == stored


def test_finished_chunks_are_not_done_again(miniature, monkeypatch):
    monkeypatch.setattr(windows_module, "WINDOW", 5)
    expected = both_ways(miniature)[0]
    real, done = corpus_pass.Session.work, []

    def interrupted(session, number, advance):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(number)
        return real(session, number, advance)

    with monkeypatch.context() as patch:
        patch.setattr(corpus_pass.Session, "work", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(miniature.config(STREAMED))
    again = []
    monkeypatch.setattr(corpus_pass.Session, "work", lambda *given: (again.append(given[1]), real(*given))[1])
    evaluate(miniature.config(STREAMED))
    assert done == [0, 1, 2]
    assert again == [3, 4, 5, 6]
    assert results(miniature) == expected


def test_a_finished_pass_is_merged_for_the_subjects_that_are_missing(miniature, monkeypatch):
    """As if the command was killed after the evaluation of some subjects was written."""
    monkeypatch.setattr(windows_module, "WINDOW", 5)
    expected = both_ways(miniature)[0]
    with monkeypatch.context() as patch:
        patch.setattr("eval.streaming.pass_folder.PassFolder.remove", lambda folder: None)
        evaluate(miniature.config(STREAMED))
    shutil.rmtree(miniature.folder.trial("linear", 1).evaluations)
    monkeypatch.setattr(corpus_pass.Session, "work", None)
    evaluate(miniature.config(STREAMED))
    assert results(miniature) == expected


@pytest.mark.parametrize(
    ("weight", "reason"), [(float("nan"), "linear.weight has values"), (1e38, "its head produces embeddings")]
)
def test_one_bad_head_fails_and_the_others_are_evaluated(miniature, monkeypatch, capsys, weight, reason):
    monkeypatch.setattr(windows_module, "WINDOW", 5)
    files = miniature.folder.trial("linear", 0)
    head = load_head(files.model / "1_Head")
    with torch.no_grad():
        head.linear.weight.fill_(weight)
    save_head(head, files.model / "1_Head")
    miniature.change_trial("linear", 0, weights_hash=weights_hash(files.model))
    with pytest.raises(ProjheadsError, match="failed evaluations: linear seed 0 on odd; the others are finished"):
        evaluate(miniature.config(STREAMED))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "FAILED" in line)
    assert "linear seed 0: FAILED: " in line
    assert f"{reason} that are not finite" in line
    assert not files.eval_json("odd").exists()
    assert miniature.folder.trial("linear", 1).eval_json("odd").exists()


@pytest.mark.parametrize(
    ("setting", "named"), [("index=Flat", 'index "Flat"'), ("searches=[fde]", "searches"), ("explain=true", "explain")]
)
def test_what_needs_all_vectors_cannot_be_streamed(miniature, setting, named):
    with pytest.raises(ProjheadsError, match=rf"eval\.{named}: needs the vectors of all documents"):
        evaluate(miniature.config(STREAMED, f"eval.{setting}"))


CONFTEST = str(Path(__file__).parents[1] / "conftest.py")
KILLS = 3 * FACTOR


@pytest.fixture(scope="module")
def processes():
    """Processes that start with everything imported, and no thread pool."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["eval.evaluate", "tests.eval.streaming.workers"])
    return context


def start(processes, miniature, count=1, host=None, shared_locks=True):
    """Start a command that works on a pass of 16 chunks."""
    log = miniature.yaml.with_name("chunks.txt")
    arguments = (CONFTEST, str(miniature.yaml), str(log), count, host, shared_locks)
    process = processes.Process(target=command, args=arguments)
    process.start()
    return process


def finished_chunks(miniature):
    return sorted(map(int, miniature.yaml.with_name("chunks.txt").read_text().split()))


@pytest.fixture
def expected(miniature):
    """Results of the stored way, which left nothing on the disk."""
    evaluate(miniature.config("eval.corpus=stored"))
    found = results(miniature)
    forget(miniature)
    return found


def test_commands_share_a_pass_and_one_that_is_killed_loses_its_chunk_only(processes, miniature, expected):
    chance = random.Random(os.environ.get("PROJHEADS_FUZZ_SEED", "pass"))
    others = [start(processes, miniature)]
    killed = 0
    for _ in range(KILLS):
        process = start(processes, miniature)
        process.join(chance.uniform(0.2, 0.6))
        process.kill()
        process.join()
        killed += process.exitcode == -9
    others.append(start(processes, miniature))
    for process in others:
        process.join()
        assert process.exitcode == 0
    assert killed
    # A chunk is noted after it is written, so one that was killed between the two is missing here.
    done = finished_chunks(miniature)
    assert set(done) <= set(range(16))
    assert len(done) == len(set(done)) >= 16 - killed
    assert results(miniature) == expected
    assert not list(miniature.config().cache.glob("passes/*/*/"))


@pytest.mark.parametrize("workers", [2, "ray"])
def test_a_worker_that_is_killed_costs_its_chunk(processes, miniature, expected, workers):
    """Chunks are the tasks of the processes of a machine, and of a Ray cluster."""
    if workers == "ray":
        pytest.importorskip("ray")
    process = start(processes, miniature, workers)
    process.join()
    assert process.exitcode == 0
    assert miniature.yaml.with_name("chunks.txt.killed").exists()
    done = finished_chunks(miniature)
    assert len(done) == len(set(done)) >= 15
    assert results(miniature) == expected


def test_a_command_that_is_killed_takes_its_workers_with_it(processes, miniature, expected):
    process = start(processes, miniature, 2)
    while not miniature.yaml.with_name("chunks.txt").exists():
        time.sleep(0.01)
    process.kill()
    process.join()
    process = start(processes, miniature, 1)
    process.join()
    assert process.exitcode == 0
    done = finished_chunks(miniature)
    assert len(done) == len(set(done)) >= 14
    assert results(miniature) == expected


@pytest.mark.parametrize("shared_locks", [True, False])
def test_hosts_share_a_pass_and_one_that_dies_costs_its_chunk(processes, miniature, expected, shared_locks):
    """A Slurm array: every host runs the same command in the same folders; one dies in the middle of a chunk."""
    lost = start(processes, miniature, host="node-1", shared_locks=shared_locks)
    while not miniature.yaml.with_name("chunks.txt").exists():
        time.sleep(0.01)
    lost.kill()
    lost.join()
    others = [start(processes, miniature, host=f"node-{number}", shared_locks=shared_locks) for number in (2, 3)]
    for process in others:
        process.join()
        assert process.exitcode == 0
    done = finished_chunks(miniature)
    # The chunk that was written just before the kill may not have been noted.
    assert len(set(done)) >= 15
    assert len(done) == len(set(done)) or not shared_locks
    assert results(miniature) == expected


def test_missing_chunks_are_noticed(miniature, monkeypatch, capsys):
    monkeypatch.setattr(windows_module, "WINDOW", 8)
    monkeypatch.setattr(corpus_pass.Session, "work", lambda session, number, advance: "")
    with pytest.raises(ProjheadsError, match="failed evaluations"):
        evaluate(miniature.config(STREAMED, "eval.references=[]"))
    assert "4 of 4 chunks are missing; run the same command again" in capsys.readouterr().out


def test_a_corpus_in_an_arrow_file_ends_with_the_same_bytes(miniature, monkeypatch, capsys):
    evaluate(miniature.config("eval.corpus=stored"))
    expected = results(miniature)
    forget(miniature)
    monkeypatch.setattr(windows_module, "WINDOW", 7)
    monkeypatch.setattr("experiment.collections.beir_folder.LARGE", 0)
    evaluate(miniature.config(STREAMED))
    assert list(miniature.config().cache.glob("corpora/*/corpus.arrow"))
    assert results(miniature) == expected


def test_bm25_of_too_much_text_is_skipped_and_said(miniature, monkeypatch, capsys):
    monkeypatch.setattr("experiment.collections.beir_folder.LARGE", 0)
    monkeypatch.setattr("eval.search_task.BM25_TEXT_BYTES", 1000)
    evaluate(miniature.config(STREAMED))
    assert "odd: BM25 is skipped: its index is in memory, for at most" in capsys.readouterr().out
    assert not miniature.folder.reference("bm25").eval_json("odd").exists()
    assert miniature.folder.reference("backbone").eval_json("odd").exists()
