"""Evaluation of a complete small experiment, on a collection with all the oddities of real ones."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
import torch

import eval.evaluator as evaluator_module
import eval.search_task as task_module
from eval.__main__ import main
from eval.estimate import estimate_groups
from eval.evaluate import encoding_of, evaluate_experiment
from eval.evaluator import make_evaluator
from eval.planned import list_planned
from eval.runs import encode_id, read_qrels, read_run
from eval.score import score_run
from eval.search_task import SearchTask
from eval.subjects import list_trials
from experiment.collections import open_collection
from experiment.collections.beir_hub import CQADUPSTACK
from experiment.config.load import load_config
from experiment.console.command import run_command
from experiment.console.progress import Progress
from experiment.disk.layout import ExperimentFolder
from experiment.disk.lock import locked
from experiment.disk.models import weights_hash
from experiment.disk.records import ReferenceRecord
from projheads.errors import ProjheadsError
from projheads.hosts.head_files import load_head, save_head

SLUGS = ("linear", "ffn-activation=gelu")


def evaluate(config):
    with Progress() as progress:
        evaluate_experiment(config, progress)


def evaluated(miniature):
    """The folders of everything that can be evaluated, by name."""
    folder = miniature.folder
    found = {f"{slug} {seed}": folder.trial(slug, seed) for slug in SLUGS for seed in (0, 1)}
    found |= {f"untrained {seed}": folder.reference("untrained", seed) for seed in (0, 1)}
    return found | {name: folder.reference(name) for name in ("bm25", "backbone")}


def results(folder, dataset="odd"):
    """What evaluations found, without what differs between machines and runs."""
    found = {}
    for file in sorted(folder.path.glob(f"*/*/seed-*/eval/{dataset}.json")):
        record = json.loads(file.read_text())
        kept = {name: record[name] for name in ("key", "dataset", "index", "measures", "means", "bytes", "truncated")}
        found[file.relative_to(folder.path).as_posix()] = kept, file.with_suffix(".run").read_bytes()
    return found


def states_of(backbone_seed, text, *, is_query, fake_host):
    """Token states of one text, float16 as they are kept."""
    model = fake_host(backbone_seed, torch.nn.Linear(12, 6))
    tokens = model.tokenize([text], is_query=is_query)
    states = model.token_states(tokens)[0][model.scoring_mask(tokens, is_query=is_query)[0]]
    return states.detach().half().float()


def scores_by_hand(head, collection, fake_host, backbone_seed=7):
    """MaxSim of every query with every document, one pair at a time."""

    def embed(text, is_query):
        states = states_of(backbone_seed, text, is_query=is_query, fake_host=fake_host)
        with torch.no_grad():
            return torch.nn.functional.normalize(head(states), dim=-1).half().double().numpy()

    documents = {name: embed(document.passage, False) for name, document in collection.corpus.items()}
    scores = {}
    for query in collection.qrels:
        rows = embed(collection.queries[query], True)
        scores[query] = {
            name: sum(max(float(row @ token) for token in tokens) for row in rows) for name, tokens in documents.items()
        }
    return scores


def test_every_run_is_maxsim_of_the_projected_states(miniature, fake_host):
    evaluate(miniature.config())
    collection = open_collection(str(miniature.collection), split="test")
    heads = {
        name: load_head(files.model / "1_Head") for name, files in evaluated(miniature).items() if files.model.exists()
    }
    heads["backbone"] = torch.nn.Identity()
    assert len(heads) == 7
    for name, head in heads.items():
        run = read_run(evaluated(miniature)[name].eval_run("odd"))
        expected = scores_by_hand(head, collection, fake_host)
        assert list(run) == list(collection.qrels)
        for query, found in run.items():
            assert len(found) == 20
            # Rounding to float16 may fall differently by the shape of a product, hence the tolerance.
            best = sorted(expected[query].values(), reverse=True)[:20]
            np.testing.assert_allclose([score for _, score in found], best, atol=0.02)
            for document, score in found:
                assert score == pytest.approx(expected[query][document], abs=0.02)


@pytest.mark.parametrize("index", ["exact", "Flat"])
def test_an_excluded_document_is_in_no_run_and_counted(miniature, index, capsys):
    dataset = f"{{source: {miniature.collection}, name: odd, exclude_own_id: true}}"
    evaluate(miniature.config(f"eval.index={index}"))
    kept = read_run(miniature.folder.trial("linear", 0).eval_run("odd"))
    assert "q1" in dict(kept["q1"])
    evaluate(miniature.config(f"eval.index={index}", f"eval.datasets=[{dataset}]"))
    assert "2 same id documents excluded" in capsys.readouterr().out
    for files in evaluated(miniature).values():
        run = read_run(files.eval_run("odd"))
        assert not [query for query in run if query in dict(run[query])]
        record = json.loads(files.eval_json("odd").read_text())
        assert record["dataset"]["notes"]["same_id_documents_excluded"] == 2
        assert record["measures"]["R@20"]["q1"] <= 2 / 3


def test_equal_documents_have_equal_scores_and_stand_by_falling_id(miniature):
    evaluate(miniature.config())
    pairs = 0
    for name, files in evaluated(miniature).items():
        for found in read_run(files.eval_run("odd")).values():
            scores = dict(found)
            if "01" in scores:
                assert scores["1"] == scores["01"], name
                pairs += 1
            keys = [(score, encode_id(document).encode()) for document, score in found]
            assert keys == sorted(keys, reverse=True)
    assert pairs > 10


def test_means_are_those_of_pytrec_eval_on_the_written_runs(miniature):
    evaluate(miniature.config())
    collection = open_collection(str(miniature.collection), split="test")
    qrels = {encode_id(q): {encode_id(d): g for d, g in grades.items()} for q, grades in collection.qrels.items()}
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10", "recall_20", "recip_rank"})
    names = {"nDCG@10": "ndcg_cut_10", "R@20": "recall_20"}
    for files in evaluated(miniature).values():
        record = json.loads(files.eval_json("odd").read_text())
        with files.eval_run("odd").open(encoding="utf-8") as file:
            theirs = evaluator.evaluate(pytrec_eval.parse_run(file))
        for ours, other in names.items():
            per_query = {query: theirs.get(encode_id(query), {}).get(other, 0.0) for query in collection.qrels}
            assert record["measures"][ours] == pytest.approx(per_query, abs=1e-12)
            assert record["means"][ours] == pytest.approx(np.mean(list(per_query.values())), abs=1e-12)
    assert "recip_rank" in next(iter(theirs.values()))


def test_what_an_evaluation_tells(miniature):
    evaluate(miniature.config("eval.index=Flat", "eval.candidates_per_token=3"))
    record = json.loads(miniature.folder.trial("linear", 0).eval_json("odd").read_text())
    dataset = record["dataset"]
    assert (dataset["name"], dataset["split"], dataset["documents"], dataset["queries"]) == ("odd", "test", 31, 5)
    assert dataset["hash"] == open_collection(str(miniature.collection), split="test").hash
    assert {"empty_documents", "empty_queries", "negative_judgements", "repeated_judgements"} <= dataset["notes"].keys()
    assert record["truncated"] == {"queries": 0, "documents": 1}
    index = record["index"]
    assert (index["kind"], index["factory"], index["candidates_per_token"]) == ("faiss", "Flat", 3)
    assert index["candidate_recall"]["queries"] == 5
    assert 0 < index["candidate_recall"]["value"] <= 1
    assert record["bytes"]["token_vectors"] > 0
    assert record["bytes"]["index"] > 0
    assert all(seconds >= 0 for seconds in record["timings"].values())
    assert "torch" in record["versions"]


def test_every_oddity_of_the_data_is_counted_told_and_survived(miniature, capsys):
    with (miniature.collection / "qrels" / "test.tsv").open("a", encoding="utf-8") as file:
        file.write("5\tfiller-4\t1\n")
    evaluate(miniature.config("eval.depth=31"))
    record = json.loads(miniature.folder.trial("linear", 0).eval_json("odd").read_text())
    counts = {
        "contradicting_judgements": 1,
        "empty_documents": 1,
        "empty_queries": 1,
        "graded_judgements": 3,
        "ids_with_spaces": 4,
        "judgements_of_missing_documents": 1,
        "judgements_of_missing_queries": 1,
        "negative_judgements": 1,
        "queries_without_judgements": 1,
        "repeated_documents": 1,
        "repeated_judgements": 1,
        "unjudged_copies_of_relevant_documents": 1,
    }
    assert record["dataset"]["notes"] == counts
    assert record["truncated"]["documents"] == 1  # the text of 100 000 words
    told = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("odd: 31 documents"))
    assert all(f"{count} {what.replace('_', ' ')}" in told for what, count in counts.items())
    run = read_run(miniature.folder.trial("linear", 0).eval_run("odd"))
    assert {"1", "01", "tab\there", "é😀", "100%20", "d 2", "empty", "long"} <= {
        name for found in run.values() for name, _ in found
    }


def test_a_single_judged_query_is_evaluated_and_nothing_is_concluded_from_it(miniature, capsys):
    (miniature.collection / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\t1\t1\n")
    assert run_command(main, [str(miniature.yaml)]) == 0
    assert "no leaderboard: odd: it has one judged query" in capsys.readouterr().out
    assert len(results(miniature.folder)) == 8
    assert run_command(main, ["report", str(miniature.folder.path)]) == 0
    assert "no leaderboard: odd: it has one judged query" in capsys.readouterr().out


def test_a_data_set_with_a_single_judged_query_is_left_out_beside_others(miniature, capsys):
    shutil.copytree(miniature.collection, miniature.collection.with_name("single"))
    qrels = miniature.collection.with_name("single") / "qrels" / "test.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq1\t1\t1\n")
    both = f"eval.datasets=[{miniature.collection}, {miniature.collection.with_name('single')}]"
    assert run_command(main, [str(miniature.yaml), both]) == 0
    assert "single is left out: it has one judged query" in " ".join(capsys.readouterr().out.split())
    assert len(results(miniature.folder, "single")) == 8
    board = json.loads((miniature.folder.report / "leaderboard.json").read_text())
    assert [dataset["name"] for dataset in board["datasets"]] == ["odd"]


def test_what_another_process_is_at_comes_last_and_is_not_repeated(miniature, capsys, monkeypatch):
    evaluate(miniature.config())
    whole = results(miniature.folder)
    theirs = miniature.folder.trial("linear", 0)
    done = {file: file.read_bytes() for file in (theirs.path / "eval").iterdir()}
    for files in evaluated(miniature).values():
        shutil.rmtree(files.path / "eval")
    say = Progress.say
    with ExitStack() as other_process:
        assert other_process.enter_context(locked(theirs.path / "eval" / ".lock", wait=False))

        def heard(progress, line):
            say(progress, line)
            if "untrained seed 1: nDCG" in line:  # the last of those that are free
                for file, content in done.items():
                    file.write_bytes(content)
                other_process.close()

        monkeypatch.setattr(Progress, "say", heard)
        capsys.readouterr()
        evaluate(miniature.config())
    lines = capsys.readouterr().out.splitlines()
    assert "odd linear seed 0: in progress in another process; deferred" in lines
    assert lines[-1] == "odd [8/8] linear seed 0: finished by another process"
    assert results(miniature.folder) == whole


AT_ONCE = """
import runpy, sys
from types import SimpleNamespace
import eval.embed
test, conftest, yaml = sys.argv[1:]
host = SimpleNamespace(load=runpy.run_path(conftest)["load_fake"])
eval.embed.load_host = lambda name: host
module = runpy.run_path(test)
module["evaluate"](module["load_config"](module["Path"](yaml)))
"""


def test_two_processes_at_once_do_each_evaluation_once(miniature):
    evaluate(miniature.config())
    alone = results(miniature.folder)
    for files in evaluated(miniature).values():
        shutil.rmtree(files.path / "eval")
    shutil.rmtree(miniature.config().cache)
    command = [sys.executable, "-c", AT_ONCE, __file__, str(Path(__file__).with_name("conftest.py"))]
    processes = [
        subprocess.Popen(
            [*command, str(miniature.yaml)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = ""
    for process in processes:
        out, error = process.communicate()
        assert process.returncode == 0, error
        told += out
    for name in ("linear seed 0", 'ffn(activation="gelu") seed 1', "bm25", "backbone", "untrained seed 1"):
        assert told.count(f"{name}: nDCG@10") == 1
    assert results(miniature.folder) == alone


def test_cqadupstack_is_searched_forum_by_forum_and_counts_as_one(miniature, capsys):
    cache = miniature.config().cache
    for place, part in enumerate(CQADUPSTACK):
        folder = cache / "beir" / "cqadupstack" / part  # as the archive of BEIR unpacks
        shutil.copytree(miniature.collection, folder)
        with (folder / "corpus.jsonl").open("a") as file:
            file.write(json.dumps({"_id": f"of {part}", "text": "trees " * place}) + "\n")
    datasets = f"eval.datasets=[{{suite: cqadupstack}}, {miniature.collection}]"
    assert run_command(main, [str(miniature.yaml), datasets, "eval.references=[]", "seeds=[0]"]) == 0
    assert "twelve forums" in capsys.readouterr().out
    trial = miniature.folder.trial("linear", 0)
    records = [json.loads(trial.eval_json(f"cqadupstack-{part}").read_text()) for part in CQADUPSTACK]
    assert len({record["dataset"]["hash"] for record in records}) == 12
    assert {record["dataset"]["group"] for record in records} == {"cqadupstack"}
    board = json.loads((miniature.folder.report / "leaderboard.json").read_text())
    assert [dataset["name"] for dataset in board["datasets"]] == ["cqadupstack", "odd"]
    alone = json.loads(trial.eval_json("odd").read_text())["means"]["nDCG@10"]
    scores = next(row["scores"]["nDCG@10"] for row in board["rows"] if row["label"] == "linear")
    assert scores["cqadupstack"][0] == pytest.approx(np.mean([record["means"]["nDCG@10"] for record in records]))
    assert scores["odd"][0] == pytest.approx(alone)
    assert load_config(miniature.folder.experiment_yaml).eval.datasets[-1].name == "odd"


def test_a_collection_that_comes_into_a_group_is_not_evaluated_again(miniature, capsys):
    evaluate(miniature.config())
    first = results(miniature.folder)
    evaluate(miniature.config(f"eval.datasets=[{{source: {miniature.collection}, group: forums}}]"))
    assert "odd: all 8 evaluations are finished" in capsys.readouterr().out
    second = results(miniature.folder)
    assert {record["dataset"]["group"] for record, _ in first.values()} == {None}
    assert {record["dataset"]["group"] for record, _ in second.values()} == {"forums"}
    assert [run for _, run in first.values()] == [run for _, run in second.values()]


def test_reference_rows_say_what_they_are(miniature):
    evaluate(miniature.config())
    about = {
        name: json.loads(miniature.folder.reference(name).reference_json.read_text()) for name in ("bm25", "backbone")
    }
    assert about["bm25"]["description"].startswith("BM25 (bm25s")
    assert about["backbone"]["name"] == "backbone"
    bm25 = read_run(miniature.folder.reference("bm25").eval_run("odd"))
    assert {name for name, _ in bm25["q1"]} == {"1", "01", "q1"}
    assert "q\u00a04" not in bm25  # an empty query finds nothing
    record = json.loads(miniature.folder.reference("bm25").eval_json("odd").read_text())
    assert record["index"]["kind"] == "bm25"
    assert record["measures"]["nDCG@10"]["q\u00a04"] == 0


def test_faiss_with_every_candidate_gives_the_run_files_of_the_exact_search(miniature):
    evaluate(miniature.config("eval.index=exact"))
    exact = {name: files.eval_run("odd").read_bytes() for name, files in evaluated(miniature).items()}
    evaluate(miniature.config("eval.index=Flat", "eval.candidates_per_token=100000"))
    assert {name: files.eval_run("odd").read_bytes() for name, files in evaluated(miniature).items()} == exact
    index = json.loads(miniature.folder.trial("linear", 0).eval_json("odd").read_text())["index"]
    assert index["candidate_recall"]["value"] == 1.0


def test_the_same_command_twice_does_nothing_new_and_says_so(miniature, fake_host, capsys):
    evaluate(miniature.config())
    files = {file: file.stat().st_mtime_ns for file in miniature.folder.path.rglob("*") if file.is_file()}
    fake_host.calls = 0
    capsys.readouterr()
    evaluate(miniature.config())
    assert {file: file.stat().st_mtime_ns for file in miniature.folder.path.rglob("*") if file.is_file()} == files
    assert fake_host.calls == 0
    assert "odd: all 8 evaluations are finished; nothing to do" in capsys.readouterr().out


def test_a_fresh_experiment_gives_the_same_bytes(miniature):
    evaluate(miniature.config())
    first = results(miniature.folder)
    for files in evaluated(miniature).values():
        shutil.rmtree(files.path / "eval")
    shutil.rmtree(miniature.config().cache)
    evaluate(miniature.config())
    assert results(miniature.folder) == first
    assert len(first) == 8


def test_only_what_is_missing_is_evaluated(miniature, capsys):
    evaluate(miniature.config())
    first = results(miniature.folder)
    miniature.folder.trial("linear", 1).eval_json("odd").unlink()
    miniature.folder.reference("untrained", 0).eval_run("odd").unlink()
    capsys.readouterr()
    evaluate(miniature.config())
    out = capsys.readouterr().out
    assert "[1/2] linear seed 1" in out
    assert "[2/2] untrained seed 0" in out
    assert results(miniature.folder) == first


@pytest.mark.parametrize(
    "override", ["eval.depth=21", "eval.measures=[nDCG@5]", "eval.index=exact", "eval.precision=bf16"]
)
def test_other_settings_evaluate_anew(miniature, capsys, override):
    evaluate(miniature.config())
    capsys.readouterr()
    evaluate(miniature.config(override))
    assert "odd: all 8" not in capsys.readouterr().out


def test_a_trial_that_was_trained_anew_is_evaluated_anew(miniature, capsys):
    evaluate(miniature.config())
    model = miniature.folder.trial("linear", 0).model
    save_head(load_head(miniature.folder.trial("linear", 1).model / "1_Head"), model / "1_Head")
    miniature.change_trial("linear", 0, weights_hash=weights_hash(model))
    capsys.readouterr()
    evaluate(miniature.config())
    assert "odd: 1 to evaluate, 7 finished" in capsys.readouterr().out


def test_the_backbone_encodes_each_text_once_for_all_trials(miniature, fake_host):
    evaluate(miniature.config())
    for_all = fake_host.calls
    shutil.rmtree(miniature.config().cache)
    for files in evaluated(miniature).values():
        shutil.rmtree(files.path / "eval")
    fake_host.calls = 0
    evaluate(miniature.config("seeds=[0]", "heads.variants=[linear]", "eval.references=[]"))
    assert fake_host.calls == for_all


def test_another_experiment_finds_the_token_states_in_the_cache(miniature, fake_host, tmp_path):
    evaluate(miniature.config())
    shutil.copytree(miniature.folder.path, tmp_path / "copy")
    for file in (tmp_path / "copy").rglob("eval"):
        shutil.rmtree(file)
    fake_host.calls = 0
    evaluate(miniature.config(f"output={tmp_path / 'copy'}"))
    assert fake_host.calls == 0
    assert results(ExperimentFolder(tmp_path / "copy")) == results(miniature.folder)


def test_failed_and_missing_trials_are_passed_over_and_said(miniature, capsys):
    miniature.change_trial("linear", 0, status="failed", weights_hash=None, error="the loss is not finite at step 3")
    miniature.folder.trial(SLUGS[1], 1).trial_json.unlink()
    evaluate(miniature.config())
    out = capsys.readouterr().out
    assert "linear seed 0: skipped, its training failed (the loss is not finite at step 3)" in out
    assert 'not trained yet: ffn(activation="gelu") seed 1' in out
    assert not miniature.folder.trial("linear", 0).eval_json("odd").exists()
    assert miniature.folder.trial("linear", 1).eval_json("odd").exists()


def test_a_head_that_gives_nonsense_fails_alone(miniature, capsys):
    head = load_head(miniature.folder.trial("linear", 0).model / "1_Head")
    with torch.no_grad():
        next(head.parameters()).fill_(3e38)  # finite, as a head must be, but not its embeddings
    model = miniature.folder.trial("linear", 0).model
    save_head(head, model / "1_Head")
    miniature.change_trial("linear", 0, weights_hash=weights_hash(model))
    with pytest.raises(ProjheadsError, match="failed evaluations: linear seed 0 on odd; the others are finished"):
        evaluate(miniature.config())
    assert "FAILED: its head produces embeddings that are not finite" in capsys.readouterr().out
    assert len(results(miniature.folder)) == 7


def flip_byte(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def delete(file):
    file.unlink()


@pytest.mark.parametrize("harm, name", [(flip_byte, "1_Head/model.safetensors"), (delete, "settings.json")])
def test_a_damaged_model_is_one_line_with_the_remedy_and_the_others_are_evaluated(miniature, capsys, harm, name):
    evaluate(miniature.config())
    first = results(miniature.folder)
    for files in evaluated(miniature).values():
        shutil.rmtree(files.path / "eval")
    harmed = miniature.folder.trial("linear", 0), miniature.folder.reference("untrained", 0)
    for files in harmed:
        harm(files.model / name)
    with pytest.raises(ProjheadsError, match="linear seed 0 on odd, untrained seed 0 on odd; the others are finished"):
        evaluate(miniature.config())
    remedy = f"run python -m train {miniature.folder.experiment_yaml}, which makes it again"
    out = " ".join(capsys.readouterr().out.split())
    for files in harmed:
        assert f"{files.model}: damaged (its files are not those that were saved); {remedy}" in out
    written = results(miniature.folder)
    assert len(written) == 6
    assert written == {name: first[name] for name in written}


def test_a_backbone_row_is_of_an_intact_model(miniature, retrain):
    for harmed in (miniature.folder.reference("untrained", 0).model, miniature.folder.reference("untrained", 1).model):
        (harmed / "settings.json").unlink()
    evaluate(miniature.config("eval.references=[backbone]"))
    first = miniature.folder.reference("backbone").eval_run("odd").read_bytes()
    shutil.rmtree(miniature.folder.path)
    config = miniature.config("train.trainable=all", "eval.references=[backbone]")
    retrain(config)
    shutil.rmtree(miniature.folder.path / "references" / "untrained")
    backbone = miniature.folder.reference("backbone")
    evaluate(config)
    (backbone.model / "settings.json").unlink()
    shutil.rmtree(backbone.evaluations)
    evaluate(config)
    assert (backbone.model / "settings.json").exists()
    assert backbone.eval_run("odd").read_bytes() == first


def test_nothing_trained_is_one_clear_line(miniature):
    shutil.rmtree(miniature.folder.path / "trials")
    with pytest.raises(ProjheadsError, match="has no finished trial; run python -m train"):
        evaluate(miniature.config())


def test_a_folder_of_another_experiment_is_refused(miniature):
    with pytest.raises(
        ProjheadsError, match=r"holds a different experiment \(train.batch_size is 32 there and 4 here\)"
    ):
        evaluate(miniature.config("train.batch_size=4"))
    with pytest.raises(ProjheadsError, match=r"/nowhere/at-all: has no experiment\.yaml; train the experiment first"):
        evaluate(miniature.config("output=/nowhere/at-all"))
    assert not results(miniature.folder)


def test_a_bad_index_is_refused_before_anything_is_encoded(miniature, fake_host):
    with pytest.raises(ProjheadsError, match=r'eval\.index "IFV16,Flat"'):
        evaluate(miniature.config("eval.index='IFV16,Flat'"))
    assert fake_host.calls == 0


def test_trained_backbones_are_encoded_each_and_leave_nothing_in_the_cache(miniature, fake_host, retrain):
    shutil.rmtree(miniature.folder.path)
    config = miniature.config("train.trainable=all", "eval.references=[backbone]")
    retrain(config)
    evaluate(config)
    assert not list((config.cache / "embeddings").iterdir())
    collection = open_collection(str(miniature.collection), split="test")
    for seed in (0, 1):
        files = miniature.folder.trial("linear", seed)
        expected = scores_by_hand(load_head(files.model / "1_Head"), collection, fake_host, backbone_seed=100 + seed)
        for query, found in read_run(files.eval_run("odd")).items():
            for document, score in found:
                assert score == pytest.approx(expected[query][document], abs=0.02)


def test_embeddings_that_a_killed_evaluation_left_are_deleted_by_the_next(miniature, retrain, monkeypatch):
    shutil.rmtree(miniature.folder.path)
    config = miniature.config("train.trainable=all", "eval.references=[]")
    retrain(config)
    with monkeypatch.context() as patch:
        patch.setattr("eval.embed.remove_store", lambda store, wait: None)
        evaluate(config)
    assert len(list((config.cache / "embeddings").iterdir())) == 4
    evaluate(config)
    assert not list((config.cache / "embeddings").iterdir())


def test_the_pretrained_backbone_is_fetched_where_no_model_has_it(miniature, fake_host, retrain):
    evaluate(miniature.config())
    frozen = read_run(miniature.folder.reference("backbone").eval_run("odd"))
    shutil.rmtree(miniature.folder.path)
    config = miniature.config("train.trainable=all", "eval.references=[backbone]")
    retrain(config)
    shutil.rmtree(miniature.folder.path / "references")
    evaluate(config)
    # The fake host's pretrained backbone is the one that the frozen trials have.
    model = miniature.folder.reference("backbone").model
    assert json.loads((model / "backbone.json").read_text()) == {"seed": 7}
    assert read_run(miniature.folder.reference("backbone").eval_run("odd")) == frozen


def test_untrained_rows_that_training_did_not_write_are_passed_over_and_said(miniature, capsys):
    shutil.rmtree(miniature.folder.path / "references")
    evaluate(miniature.config())
    assert "untrained: skipped" in capsys.readouterr().out
    assert len(results(miniature.folder)) == 6


def test_a_start_that_every_seed_shares_is_evaluated_once(miniature, capsys):
    one, other = (miniature.folder.reference("untrained", seed) for seed in (0, 1))
    shutil.rmtree(other.model)
    shutil.copytree(one.model, other.model)
    same = ReferenceRecord.read(one.reference_json).model_copy(update={"seed": 1})
    same.write(other.reference_json)
    evaluate(miniature.config())
    assert "untrained seed 0: nDCG@10" in capsys.readouterr().out
    assert one.eval_json("odd").exists()
    assert not other.eval_json("odd").exists()


def evaluate_until_killed(yaml, evaluations):
    """Evaluate, and die as if the power went, in the middle of writing."""
    real, written = evaluator_module.write_run, []

    def killing(path, run):
        if len(written) == evaluations:
            os.kill(os.getpid(), signal.SIGKILL)
        written.append(path)
        real(path, run)

    evaluator_module.write_run = killing
    evaluate(load_config(Path(yaml)))


IN_A_NEW_PROCESS = """
import runpy, sys
from types import SimpleNamespace
import eval.embed
test, conftest, yaml, evaluations = sys.argv[1:]
host = SimpleNamespace(load=runpy.run_path(conftest)["load_fake"])
eval.embed.load_host = lambda name: host
runpy.run_path(test)["evaluate_until_killed"](yaml, int(evaluations))
"""


def test_a_killed_evaluation_goes_on_and_ends_with_the_same_bytes(miniature, tmp_path, capsys):
    evaluate(miniature.config())
    uninterrupted = results(miniature.folder)
    for files in evaluated(miniature).values():
        shutil.rmtree(files.path / "eval")
    shutil.rmtree(miniature.config().cache)
    conftest = Path(__file__).with_name("conftest.py")
    command = [sys.executable, "-c", IN_A_NEW_PROCESS, __file__, str(conftest), str(miniature.yaml), "3"]
    process = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert len(results(miniature.folder)) == 3
    capsys.readouterr()
    evaluate(miniature.config())
    assert "odd: 5 to evaluate, 3 finished" in capsys.readouterr().out
    assert results(miniature.folder) == uninterrupted
    assert not [file for file in miniature.config().cache.iterdir() if file.name != "states"]


@pytest.mark.parametrize("whole, call", [*((False, call) for call in (3, 4, 5)), *((True, call) for call in (4, 6, 9))])
def test_a_cache_that_vanishes_costs_time_and_changes_no_result(
    miniature, fake_host, retrain, monkeypatch, whole, call
):
    config = miniature.config("eval.references=[]", "eval.linearise=false")
    if whole:
        shutil.rmtree(miniature.folder.path)
        config = miniature.config("eval.references=[]", "train.trainable=all")
        retrain(config)
    evaluate(config)
    undisturbed = results(miniature.folder)
    for files in miniature.folder.path.rglob("eval"):
        shutil.rmtree(files)
    shutil.rmtree(config.cache)
    real, calls = fake_host.token_states, []

    def vanishing(model, tokens):
        calls.append(1)
        if len(calls) == call + 1:
            shutil.rmtree(config.cache, ignore_errors=True)
        return real(model, tokens)

    monkeypatch.setattr(fake_host, "token_states", vanishing)
    with suppress(ProjheadsError):
        evaluate(config)
    written = results(miniature.folder)
    assert written == {name: undisturbed[name] for name in written}
    evaluate(config)
    assert results(miniature.folder) == undisturbed
    assert len(calls) > call


def test_documents_without_any_token_vector_are_an_error(miniature, fake_host, monkeypatch, capsys):
    real = fake_host.scoring_mask

    def nothing(model, tokens, *, is_query):
        return real(model, tokens, is_query=is_query) & torch.tensor(is_query)

    monkeypatch.setattr(fake_host, "scoring_mask", nothing)
    with pytest.raises(ProjheadsError, match="failed evaluations"):
        evaluate(miniature.config("eval.references=[]", "seeds=[0]"))
    assert "linear seed 0: none of the 31 documents has a token vector" in capsys.readouterr().out
    assert not results(miniature.folder)


def test_grades_that_cannot_be_measured_are_refused_before_anything_is_encoded(miniature, fake_host):
    with (miniature.collection / "qrels" / "test.tsv").open("a") as file:
        file.write(f"5\tfiller-7\t{10**30}\n")
    with pytest.raises(ProjheadsError, match=r'odd: query "5": the grade of document "filler-7" is 1000000'):
        evaluate(miniature.config())
    assert fake_host.calls == 0


def test_judgements_lie_beside_the_runs_in_the_same_ids(miniature, capsys):
    evaluate(miniature.config())
    path = miniature.folder.qrels("odd")
    assert f"other scorers need {path}, which spells ids the same way" in " ".join(capsys.readouterr().out.split())
    collection = open_collection(str(miniature.collection), split="test")
    assert read_qrels(path) == collection.qrels
    with path.open(encoding="utf-8") as file:
        evaluator = pytrec_eval.RelevanceEvaluator(pytrec_eval.parse_qrel(file), {"ndcg_cut_10"})
    files = miniature.folder.trial("linear", 0)
    with files.eval_run("odd").open(encoding="utf-8") as file:
        theirs = evaluator.evaluate(pytrec_eval.parse_run(file))
    ours = json.loads(files.eval_json("odd").read_text())["measures"]["nDCG@10"]
    assert {encode_id(query): score for query, score in ours.items()} == pytest.approx(
        {query: scores["ndcg_cut_10"] for query, scores in theirs.items()}, abs=1e-12
    )
    assert max(ours.values()) > 0
    scored = score_run(files.eval_run("odd"), path, ["nDCG@10"])
    assert scored["measures"]["nDCG@10"] == pytest.approx(sum(ours.values()) / len(ours), abs=1e-12)


def test_ctrl_c_is_one_line_and_leaves_a_state_that_goes_on(miniature, monkeypatch, capsys):
    real, calls = task_module.search, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(task_module, "search", interrupted)
        assert run_command(main, [str(miniature.yaml)]) == 130
    assert capsys.readouterr().err.splitlines() == ["stopped; rerun the same command to resume"]
    assert len(results(miniature.folder)) == 1
    evaluate(miniature.config())
    assert len(results(miniature.folder)) == 8


def test_a_full_disk_is_one_line_and_nothing_is_half_written(miniature, monkeypatch, capsys):
    def full(path, run):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(evaluator_module, "write_run", full)
    assert run_command(main, [str(miniature.yaml)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "odd.run: No space left on device; free some space" in line
    assert not results(miniature.folder)
    assert not list(miniature.folder.path.rglob("*.tmp"))


def test_the_command_evaluates_and_ends_with_the_leaderboard(miniature, capsys):
    assert run_command(main, [str(miniature.yaml), "eval.depth=20"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"odd \[8/8\] untrained seed 1: nDCG@10 \d\d?\.\d\d, ", out)
    assert str(miniature.folder.report / "leaderboard.html") in out.replace("\n", "")
    assert (miniature.folder.report / "leaderboard.html").exists()
    assert not [character for character in out if ord(character) < 32 and character != "\n"]


def test_the_command_takes_an_output_folder_even_one_that_was_moved(miniature, capsys, tmp_path):
    moved = tmp_path / "moved"
    miniature.folder.path.rename(moved)
    assert run_command(main, [str(moved), "eval.references=[]"]) == 0
    assert len(results(ExperimentFolder(moved))) == 4
    assert load_config(moved / "experiment.yaml").output == moved


def test_a_dry_run_says_what_would_be_done_and_does_nothing(miniature, capsys):
    miniature.change_trial("linear", 0, status="failed", weights_hash=None)
    before = sorted(miniature.folder.path.rglob("*"))
    assert run_command(main, [str(miniature.yaml), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "4 trials, 3 finished, 1 failed, 0 not trained yet" in out
    assert "odd: 0 of 3 finished trials have an evaluation" in out
    assert "odd: corpus stored: " in out
    assert "floating-point operations; on this machine stored " in out
    assert sorted(miniature.folder.path.rglob("*")) == before
    assert run_command(main, [str(miniature.yaml), "--dry-run", "eval.index=nonsense"]) == 2


def groups_of(config):
    """What the evaluation of an experiment's only data set is estimated to take, with what is not trained yet."""
    (dataset,) = config.eval.datasets
    collection = open_collection(dataset.source, split=dataset.split)
    quiet = Progress(quiet=True)
    evaluator = make_evaluator(dataset, collection, config.eval, encoding_of(config, torch.device("cpu")), quiet)
    trained = list_trials(config, quiet.say)
    return estimate_groups(evaluator, trained, list_planned(config, trained, None))


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_what_an_evaluation_takes_is_known_before_a_trial_is_trained(miniature, capsys, trainable, retrain):
    """Linear heads and two-layer heads of two seeds, the stand-ins of the latter, the backbone and untrained heads."""
    config = miniature.config(f"train.trainable={trainable}", "eval.references=[backbone,untrained]")
    shutil.rmtree(config.output)
    before = groups_of(config)
    assert main(["experiment", str(miniature.yaml), "--dry-run"]) is None
    out = capsys.readouterr().out
    assert "4 trials, 0 finished, 0 failed, 4 not trained yet" in out
    assert "odd: corpus stored: " in out
    assert not config.output.exists()
    assert sorted(len(group.subjects) for group in before) == ([7] if trainable == "head" else [1, 1, 1, 1, 3])
    retrain(config)
    after = groups_of(config)
    for number in ("disk", "memory", "flop"):
        assert sorted(getattr(group.way.streamed_need, number) for group in after) == sorted(
            getattr(group.way.streamed_need, number) for group in before
        )


@pytest.mark.parametrize("lost", ["nothing", "models", "weights"])
def test_more_seeds_of_an_evaluated_experiment_are_estimated(miniature, capsys, lost):
    """Also if the models were deleted or damaged once they were evaluated."""
    evaluate(miniature.config())
    for trial in miniature.folder.trials():
        if lost == "models":
            shutil.rmtree(trial.model)
        elif lost == "weights":
            for file in trial.model.rglob("*.safetensors"):
                file.write_bytes(b"damaged")
    capsys.readouterr()
    assert run_command(main, [str(miniature.yaml), "--dry-run", "seeds=[0, 1, 2]"]) == 0
    out = capsys.readouterr().out
    assert "6 trials, 4 finished, 0 failed, 2 not trained yet" in out
    assert "odd: 4 of 4 finished trials have an evaluation" in out
    assert "odd: corpus stored: " in out


def test_texts_that_are_read_from_a_file_take_no_memory(miniature, monkeypatch):
    config = miniature.config()
    (dataset,) = config.eval.datasets
    kept = open_collection(dataset.source, split=dataset.split, cache=config.cache)
    monkeypatch.setattr("experiment.collections.beir_folder.LARGE", 0)
    read = open_collection(dataset.source, split=dataset.split, cache=config.cache)
    taken = [SearchTask(dataset, one, config.eval, torch.device("cpu")).text_bytes for one in (kept, read)]
    texts = [document.passage for document in kept.corpus.values()]
    assert taken == [sum(map(len, texts)) + 400 * len(texts), 0]


def test_the_report_command_writes_the_leaderboard_again(miniature, capsys):
    evaluate(miniature.config())
    assert run_command(main, ["report", str(miniature.folder.path)]) == 0
    assert (miniature.folder.report / "leaderboard.csv").exists()


def test_the_score_command_prints_the_means_of_a_written_run(miniature, capsys):
    evaluate(miniature.config())
    files = miniature.folder.trial("linear", 0)
    qrels = miniature.collection / "plain.tsv"
    collection = open_collection(str(miniature.collection), split="test")
    lines = [
        f"{query}\t{name}\t{grade}" for query, grades in collection.qrels.items() for name, grade in grades.items()
    ]
    qrels.write_text("\n".join(line for line in lines if line.count("\t") == 2), encoding="utf-8")
    capsys.readouterr()
    assert run_command(main, ["score", str(files.eval_run("odd")), str(qrels), "--measures", "RR@10"]) == 0
    value = float(capsys.readouterr().out.splitlines()[0].split("\t")[1])
    record = json.loads(files.eval_json("odd").read_text())
    without = [score for query, score in record["measures"]["RR@10"].items() if query != "q3"]
    assert value == pytest.approx(np.mean([*without, score_without_tab(files, collection)]), abs=1e-12)


def score_without_tab(files, collection):
    """RR@10 of the query one of whose documents a plain TSV cannot name."""
    relevant = {name for name, grade in collection.qrels["q3"].items() if grade > 0 and "\t" not in name}
    ranks = [rank for rank, (name, _) in enumerate(read_run(files.eval_run("odd"))["q3"][:10], 1) if name in relevant]
    return 1 / ranks[0] if ranks else 0.0


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["eval.measures=[nDGC@10]"], 'unknown measure "nDGC@10"'),
        (["eval.depht=10"], 'did you mean "depth"?'),
        (["eval.depth=5"], "raise eval.depth"),
        (["eval.max_candidates=19"], "raise max_candidates"),
        (["eval.index=IVF0x"], 'eval.index "IVF0x": could not parse'),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(miniature, capsys, arguments, line):
    assert run_command(main, [str(miniature.yaml), *arguments]) == 2
    captured = capsys.readouterr()
    assert line in captured.err
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    assert not results(miniature.folder)


def test_texts_of_queries_and_of_top_documents_are_kept_for_the_report(miniature):
    evaluate(miniature.config())
    texts = json.loads(miniature.folder.texts_json("odd").read_text())
    assert texts["queries"].keys() == {"q1", "q 2", "q3", "q\u00a04", "5"}
    top = set()
    for files in evaluated(miniature).values():
        for found in read_run(files.eval_run("odd")).values():
            top |= {name for name, _ in found[:3]}
    assert texts["documents"].keys() == top
    assert max(map(len, texts["documents"].values())) <= 300


def test_a_failed_evaluation_leaves_the_stored_configuration_as_it_was(miniature):
    stored = miniature.folder.experiment_yaml
    before = stored.read_bytes()
    for override in ("seeds=[7]", "eval.storage=[pq7]", f"eval.datasets=[{miniature.collection.parent / 'gone'}]"):
        assert run_command(main, [str(miniature.yaml), override]) == 2
        assert stored.read_bytes() == before


def test_a_missing_configuration_is_written_again_by_the_experiments_own_file(miniature, capsys):
    stored = miniature.folder.experiment_yaml
    stored.unlink()
    assert run_command(main, [str(miniature.folder.path)]) == 2
    assert "rerun python -m train or python -m eval with the experiment's own YAML file" in capsys.readouterr().err
    assert run_command(main, [str(miniature.yaml), "eval.references=[]", "seeds=[0]"]) == 0
    assert load_config(stored).seeds == (0,)
    stored.write_bytes(stored.read_bytes()[: stored.stat().st_size // 2])
    assert run_command(main, ["report", str(miniature.folder.path)]) in (0, 2)
    assert run_command(main, [str(miniature.folder.path)]) == 2
    assert run_command(main, [str(miniature.yaml), "eval.references=[]", "seeds=[0]"]) == 0
    assert load_config(stored).seeds == (0,)
