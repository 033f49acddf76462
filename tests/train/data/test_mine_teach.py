"""``python -m train mine`` and ``teach`` on small collections and tiny models."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from experiment.collections import Document, open_collection, write_beir_folder
from experiment.config.load import load_config
from experiment.console.command import run_command
from experiment.console.progress import Progress
from projheads.errors import ProjheadsError
from projheads.hosts.base import OpenOptions
from train.__main__ import main
from train.data import teach as teach_module
from train.data.examples import load_training_data
from train.data.teach import Teaching, teach
from train.data.teacher import kind_of_teacher, open_teacher
from train.data.tuples_file import read_about, read_tuples

pytest.importorskip("bm25s")
ROOT = Path(__file__).parents[3]
WORDS = ["cat", "dog", "bird", "mat", "rain", "sun", "walk", "run"]


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def collection(tmp_path):
    """Documents of one word more than the one before, so that BM25's order is known, a copy, and two near copies."""
    corpus = [Document(f"d{i}", "", " ".join(["paris", *WORDS[:i]])) for i in range(8)]
    long = "the capital of france is paris and the cat sat on a blue mat in the rain " * 3
    corpus += [
        Document("copy", "", "paris"),
        Document("long", "", long),
        Document("near", "", long + "and"),
        Document("also", "", "paris france"),
    ]
    queries = {"q0": "paris", "q1": "capital paris france", "q2": "zebra", "q3": "paris cat"}
    qrels = {"q0": {"d0": 1, "d2": 3, "d3": 0}, "q1": {"long": 1}, "q2": {"d5": 1}, "q3": {"d7": 1}}
    write_beir_folder(tmp_path / "set", corpus, queries, {"train": qrels})
    return tmp_path / "set"


def bm25_order(collection, query):
    """The documents that bm25s itself finds, best first, by its own retrieval."""
    import bm25s
    import Stemmer

    ids = list(collection.corpus)
    stemmer = Stemmer.Stemmer("english")
    texts = [document.passage for document in collection.corpus.values()]
    index = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    index.index(bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False)
    tokens = bm25s.tokenize(collection.queries[query], stopwords="en", stemmer=stemmer, show_progress=False)
    found, scores = index.retrieve(tokens, k=len(ids), show_progress=False)
    return {ids[document]: float(score) for document, score in zip(found[0], scores[0], strict=True) if score > 0}


def test_negatives_are_the_best_that_are_neither_relevant_nor_copies(collection, tmp_path, capsys):
    out = tmp_path / "mined.jsonl"
    assert run_command(main, ["mine", "--source", str(collection), "--out", str(out), "--negatives", "2"]) == 0
    header, *rows = read(out)
    assert [row["query_id"] for row in rows] == ["q0", "q0", "q1", "q3"]
    assert [row["document_ids"][0] for row in rows] == ["d0", "d2", "long", "d7"]
    for row in rows:
        negatives = row["document_ids"][1:]
        assert len(set(negatives)) == 2
        if row["query_id"] == "q0":
            # Graded 1 and 3, or the same words as one of those; what is judged 0 may be taken.
            assert not {"d0", "d2", "copy"} & set(negatives)
        if row["query_id"] == "q1":
            assert "near" not in negatives
    opened = open_collection(str(collection), split="train")
    for row in rows:
        order = bm25_order(opened, row["query_id"])
        ranked = sorted(order.values(), reverse=True)
        for document, rank in zip(row["document_ids"], row["ranks"], strict=True):
            assert rank is None or order[document] == pytest.approx(ranked[rank - 1], rel=1e-5)
    assert header["about"]["ranks"] == [1, 100]
    assert header["about"]["collection"] == opened.hash
    told = capsys.readouterr().out
    assert "4 tuples of a positive and 2 negatives from BM25 ranks 1 to 100" in told
    assert "1 pairs with fewer negatives" in told
    assert "candidates repeat a relevant document or another negative" in told
    read_tuples(out, n_ways=None, collection=opened)


def test_what_is_relevant_to_the_same_query_under_another_id_is_not_mined(tmp_path):
    corpus = [Document("d0", "", "paris"), *(Document(f"d{i}", "", f"paris {WORDS[i]}") for i in range(1, 7))]
    queries = {"a": "paris", "b": " paris ", "c": "paris bird"}
    qrels = {"a": {"d0": 1}, "b": {"d1": 1}, "c": {"d2": 1}}
    write_beir_folder(tmp_path / "set", corpus, queries, {"train": qrels})
    out = tmp_path / "out.jsonl"
    assert run_command(main, ["mine", "--source", str(tmp_path / "set"), "--out", str(out), "--negatives", "3"]) == 0
    rows = {row["query_id"]: row["document_ids"] for row in read(out)[1:]}
    assert not {"d0", "d1"} & {*rows["a"][1:], *rows["b"][1:]}
    assert "d0" in rows["c"]


@pytest.mark.parametrize("exclude, found", [("auto", {"numbered"}), ("false", {"copy", "numbered"}), ("true", set())])
def test_an_excluded_document_is_not_mined(tmp_path, exclude, found):
    corpus = [Document("copy", "", "paris cat"), Document("numbered", "", "paris cat rain"), Document("d", "", "paris")]
    corpus += [Document(word, "", f"paris {word}") for word in WORDS[1:5]]
    queries = {"copy": "paris cat", "numbered": "paris cat rain dog"}
    write_beir_folder(tmp_path / "set", corpus, queries, {"train": {query: {"d": 1} for query in queries}})
    data = f"{{source: {tmp_path / 'set'}, exclude_own_id: {exclude}}}"
    config, out = tmp_path / "try.yaml", tmp_path / "out.jsonl"
    config.write_text(f"heads: {{variants: [linear]}}\ntrain: {{data: {data}}}\neval: {{datasets: [pydocs]}}\n")
    assert run_command(main, ["mine", str(config), "--out", str(out), "--negatives", "5"]) == 0
    header, *rows = read(out)
    assert {row["query_id"] for row in rows if row["query_id"] in row["document_ids"]} == found
    assert header["about"]["exclude_own_id"] == {"auto": "auto", "true": True, "false": False}[exclude]


def test_ranks_are_kept_to_and_the_same_command_gives_the_same_bytes(collection, tmp_path):
    out = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    options = ["--negatives", "2", "--from-rank", "3", "--to-rank", "6"]
    for path in out:
        main(["mine", "--source", str(collection), "--out", str(path), *options])
    assert out[0].read_bytes() == out[1].read_bytes()
    stamp = out[0].stat().st_mtime_ns
    main(["mine", "--source", str(collection), "--out", str(out[0]), *options])
    assert out[0].stat().st_mtime_ns == stamp
    ranks = [rank for row in read(out[0])[1:] for rank in row["ranks"][1:]]
    assert ranks
    assert all(3 <= rank <= 6 for rank in ranks)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mine", "--out", "o.jsonl"], "give either an experiment's YAML file or --source"),
        (["mine", "--source", "pydoc", "--out", "o.jsonl"], 'did you mean "pydocs"'),
        (["mine", "--source", "pydocs", "--out", "o.txt"], "must end in .jsonl"),
        (
            ["mine", "--source", "pydocs", "--out", "o.jsonl", "--to-rank", "5"],
            "--negatives 7 do not fit into ranks 1 to 5",
        ),
        (["teach", "none.jsonl", "--model", "{model}", "--out", "o.jsonl"], "none.jsonl: no such file"),
        (["teach", "none.jsonl", "--model", "./none", "--out", "o.jsonl"], "no such folder"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, backbone, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(main, [argument.format(model=backbone) for argument in arguments]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_code_of_a_teacher_does_not_run(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    teacher = shutil.copytree(backbone, tmp_path / "teacher")
    (teacher / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    modules = [{"idx": 0, "name": "0", "path": "", "type": "evil.Transformer"}]
    (teacher / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ProjheadsError, match=r'names the class "evil\.Transformer", whose code would run'):
        open_teacher(str(teacher), device="cpu", batch_size=8)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ProjheadsError, match="cannot be opened"):  # the class is of no use
        open_teacher(str(teacher), OpenOptions(trust_remote_code=True), device="cpu", batch_size=8)
    assert (tmp_path / "ran").exists()


def test_a_teacher_that_lacks_its_classifier_does_not_open(backbone, tmp_path):
    teacher = shutil.copytree(backbone, tmp_path / "teacher")
    config = json.loads((teacher / "config.json").read_text())
    config |= {"architectures": ["BertForSequenceClassification"], "num_labels": 1}
    (teacher / "config.json").write_text(json.dumps(config))
    with pytest.raises(ProjheadsError, match=r"lacks the weights classifier\.bias, classifier\.weight"):
        open_teacher(str(teacher), device="cpu", batch_size=8)


@pytest.fixture(scope="session")
def cross_encoder(backbone, tmp_path_factory):
    """A CrossEncoder with random weights, as a folder of transformers."""
    from transformers import AutoConfig, AutoTokenizer, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("cross")
    config = AutoConfig.from_pretrained(backbone, num_labels=1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(backbone).save_pretrained(folder)
    return folder


@pytest.fixture
def tuples(tmp_path):
    """24 tuples over few texts, so that texts and pairs stand many times."""
    rows = [
        {"query": f"where is {WORDS[i % 8]}", "documents": [f"the {WORDS[(i + k) % 8]} " * (1 + k) for k in range(3)]}
        for i in range(24)
    ]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def expected_scores(path, kind, model):
    """One tuple at a time, with sentence-transformers only."""
    import sentence_transformers

    scores = []
    for row in read(path):
        if kind == "CrossEncoder":
            native = sentence_transformers.CrossEncoder(str(model), device="cpu")
            pairs = [(row["query"], document) for document in row["documents"]]
            scores.append(native.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False))
        else:
            native = sentence_transformers.SentenceTransformer(str(model), device="cpu")
            query, documents = native.encode(row["query"]), native.encode(row["documents"])
            norms = np.linalg.norm(query) * np.linalg.norm(documents, axis=1)
            scores.append(documents @ query / norms)
    return np.array(scores)


@pytest.mark.parametrize("kind", ["CrossEncoder", "bi-encoder"])
def test_scores_are_the_teachers(kind, backbone, cross_encoder, tuples, tmp_path, capsys, monkeypatch):
    model = cross_encoder if kind == "CrossEncoder" else backbone
    monkeypatch.setattr(teach_module, "WINDOW", 5)
    assert kind_of_teacher(str(model))[0] == kind
    out = tmp_path / "taught.jsonl"
    main(["teach", str(tuples), "--model", str(model), "--out", str(out), "--batch-size", "4", "--device", "cpu"])
    taught = read_tuples(out, n_ways=None, collection=None)
    first = tuples.with_name("first.jsonl")
    first.write_text("".join(tuples.read_text().splitlines(keepends=True)[:6]))
    assert np.allclose(taught.scores[:6], expected_scores(first, kind, model), atol=1e-5)
    assert np.array_equal(taught.scores[:8], taught.scores[8:16])
    header, *rows = read(out)
    assert header["about"]["teacher"]["kind"] == kind
    assert [{**row, "scores": None} for row in rows] == [{**row, "scores": None} for row in read(tuples)]
    assert f"24 tuples of 3 documents scored by the {kind}" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.jsonl", "taught.jsonl", "texts.jsonl"]


@pytest.mark.parametrize("kind", ["CrossEncoder", "bi-encoder"])
def test_prefixes_come_before_the_texts(kind, backbone, cross_encoder, tuples, tmp_path):
    model = cross_encoder if kind == "CrossEncoder" else backbone
    prefixed = tmp_path / "prefixed.jsonl"
    lines = [
        {"query": "the " + row["query"], "documents": ["sun run " + text for text in row["documents"]]}
        for row in read(tuples)
    ]
    prefixed.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ours, theirs = tmp_path / "ours.jsonl", tmp_path / "theirs.jsonl"
    command = ["--model", str(model), "--device", "cpu"]
    main(
        ["teach", str(tuples), *command, "--query-prefix", "the ", "--document-prefix", "sun run ", "--out", str(ours)]
    )
    main(["teach", str(prefixed), *command, "--out", str(theirs)])
    scores = [np.array([row["scores"] for row in read(path)[1:]]) for path in (ours, theirs)]
    assert np.allclose(*scores, atol=1e-6)
    assert read(ours)[0]["about"]["teacher"]["query_prefix"] == "the "
    main(["teach", str(tuples), *command, "--out", str(theirs), "--force"])
    assert not np.allclose(scores[0], [row["scores"] for row in read(theirs)[1:]], atol=1e-5)


def test_only_the_tuples_that_training_draws_are_scored(backbone, tuples, tmp_path, capsys):
    out, config = tmp_path / "taught.jsonl", tmp_path / "try.yaml"
    about = {
        "output": str(tmp_path / "out"),
        "model": {"backbone": str(backbone)},
        "heads": {"variants": ["linear"]},
        "train": {"data": {"tuples": str(tuples)}, "max_pairs": 6, "validation_pairs": 0, "batch_size": 2},
        "sweep": {},
        "eval": {"datasets": ["pydocs"]},
    }
    config.write_text(json.dumps(about))
    command = ["teach", str(tuples), "--model", str(backbone), "--device", "cpu", "--max-pairs", "6", "--out", str(out)]
    main([*command, "--dry-run"])
    assert "6 tuples of 3 documents" in capsys.readouterr().out
    main(command)
    taught, drawn = read_tuples(out, n_ways=None, collection=None), load_training_data(load_config(config))
    texts = [
        [[one.queries[row[0]], *(one.documents[place] for place in row[1:])] for row in rows.tolist()]
        for one, rows in ((taught, taught.rows), (drawn, drawn.examples))
    ]
    assert len(texts[0]) == 6
    assert texts[0] == texts[1]
    assert read(out)[0]["about"]["max_pairs"] == 6
    main(command)
    assert "already complete" in capsys.readouterr().out


def test_every_text_is_encoded_once_and_a_stopped_command_goes_on(backbone, tuples, tmp_path, monkeypatch):
    monkeypatch.setattr(teach_module, "WINDOW", 5)
    read_in = read_tuples(tuples, n_ways=None, collection=None)
    teacher = open_teacher(str(backbone), device="cpu", batch_size=4)
    encode, seen, limit = type(teacher).encode, [], [2]

    def counted(self, texts, *, is_query):
        if not limit[0]:
            raise KeyboardInterrupt
        limit[0] -= 1
        seen.extend(texts)
        return encode(self, texts, is_query=is_query)

    monkeypatch.setattr(type(teacher), "encode", counted)
    out = tmp_path / "taught.jsonl"
    with Progress() as progress:
        for _ in range(20):
            try:
                teach(Teaching(tuples, read_in, teacher), out, progress)
                break
            except KeyboardInterrupt:
                assert not out.exists()
                limit[0] = 2
        assert sorted(seen) == sorted([*read_in.queries, *read_in.documents])
        limit[0] = 100
        teach(Teaching(tuples, read_in, teacher), tmp_path / "whole.jsonl", progress)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_killed_it_leaves_nothing_that_counts_and_ends_with_the_same_bytes(backbone, tuples, tmp_path):
    command = [
        sys.executable,
        "-m",
        "train",
        "teach",
        str(tuples),
        "--model",
        str(backbone),
        "--device",
        "cpu",
        "--out",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen([*command, str(tmp_path / "a.jsonl")], env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob(".a.jsonl.*/*.bin")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if (tmp_path / "a.jsonl").exists():
        assert len(read(tmp_path / "a.jsonl")) == 25
    main([*command[3:-1], "--out", str(tmp_path / "a.jsonl")])
    main([*command[3:-1], "--out", str(tmp_path / "b.jsonl")])
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_mined_then_taught_keeps_how_it_was_made(collection, backbone, tmp_path, capsys):
    main(["mine", "--source", str(collection), "--out", str(tmp_path / "m.jsonl"), "--negatives", "2"])
    command = ["teach", str(tmp_path / "m.jsonl"), "--model", str(backbone), "--out", str(tmp_path / "t.jsonl")]
    main([*command, "--dry-run"])
    assert "4 tuples of 3 documents" in capsys.readouterr().out
    assert not (tmp_path / "t.jsonl").exists()
    main([*command, "--device", "cpu"])
    about = read_about(tmp_path / "t.jsonl")
    assert (about["made_by"], about["taught_by"]) == ("python -m train mine", "python -m train teach")
    assert [row["ranks"] for row in read(tmp_path / "t.jsonl")[1:]] == [
        row["ranks"] for row in read(tmp_path / "m.jsonl")[1:]
    ]


def test_no_file_is_overwritten_unless_it_is_forced(collection, backbone, tuples, tmp_path, capsys):
    mined, taught = tmp_path / "m.jsonl", tmp_path / "t.jsonl"
    mining = ["mine", "--source", str(collection), "--out"]
    teaching = ["teach", str(tuples), "--model", str(backbone), "--device", "cpu", "--out"]
    main([*mining, str(mined), "--negatives", "2"])
    main([*teaching, str(taught)])
    other = tmp_path / "other.jsonl"
    other.write_text(tuples.read_text().replace("where", "when"))
    before = {path: path.read_bytes() for path in (*tmp_path.glob("*.jsonl"), *collection.glob("*.jsonl"))}
    assert len(before) == 6
    capsys.readouterr()
    for command in (
        [*mining, str(collection / "corpus.jsonl"), "--negatives", "2"],
        [*mining, str(tuples), "--negatives", "2"],
        [*mining, str(mined), "--negatives", "1"],
        [*mining, str(taught), "--negatives", "2", "--dry-run"],
        [*teaching, str(tuples)],
        [*teaching, str(mined)],
        ["teach", str(other), *teaching[2:], str(taught)],
    ):
        assert run_command(main, command) == 2, command
        assert "exists and is not the result of this command; add --force" in capsys.readouterr().err
    (tmp_path / "folder.jsonl").mkdir()
    assert run_command(main, [*mining, str(tmp_path / "folder.jsonl"), "--negatives", "2"]) == 2
    assert {path: path.read_bytes() for path in before} == before
    assert run_command(main, [*teaching, str(taught)]) == 0
    assert "already complete" in capsys.readouterr().out
    assert run_command(main, [*mining, str(mined), "--negatives", "1", "--force"]) == 0
    assert read_about(mined)["negatives"] == 1


def test_nothing_to_mine_is_one_line_and_no_file(collection, tmp_path, capsys):
    out = tmp_path / "m.jsonl"
    command = ["mine", "--source", str(collection), "--out", str(out), "--negatives", "50"]
    assert run_command(main, command) == 2
    told = capsys.readouterr().err
    assert "no tuples to write; 5 pairs have fewer than 50 negatives in BM25 ranks 1 to 100" in told
    assert told.count("\n") == 1
    assert not list(tmp_path.glob("*.jsonl"))


def test_without_arguments_the_usage_is_printed(capsys):
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: python -m train")


def test_what_is_no_teacher(tmp_path, cross_encoder):
    from transformers import AutoConfig, AutoTokenizer, BertForSequenceClassification

    AutoTokenizer.from_pretrained(cross_encoder).save_pretrained(tmp_path / "two")
    BertForSequenceClassification(AutoConfig.from_pretrained(cross_encoder, num_labels=2)).save_pretrained(
        tmp_path / "two"
    )
    with pytest.raises(ProjheadsError, match="has 2 outputs"):
        open_teacher(str(tmp_path / "two"), device="cpu", batch_size=2)
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "config_sentence_transformers.json").write_text('{"model_type": "ColBERT"}')
    with pytest.raises(ProjheadsError, match="is a ColBERT; a teacher must be a CrossEncoder or a bi-encoder"):
        kind_of_teacher(str(tmp_path / "late"))
