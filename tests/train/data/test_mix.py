import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from experiment.collections import Document, write_beir_folder
from experiment.config.load import load_config
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import read_train_lines
from projheads.errors import ProjheadsError
from train.data.examples import load_training_data, order_of
from train.experiment import train_experiment

WAYS = 3


@pytest.fixture
def config(tmp_path, monkeypatch, backbone):
    """Two collections, of 48 and 16 pairs, and 20 taught tuples of three documents."""
    monkeypatch.chdir(tmp_path)
    for name, pairs in (("large", 48), ("small", 16)):
        corpus = [Document(f"d{i}", "", f"{name} text {i}") for i in range(pairs)]
        queries = {f"q{i}": f"{name} question {i}" for i in range(pairs)}
        write_beir_folder(Path(name), corpus, queries, {"train": {f"q{i}": {f"d{i}": 1} for i in range(pairs)}})
    rows = [
        {"query": f"taught question {i}", "documents": [f"taught {i} {k}" for k in range(WAYS)], "scores": [3, 2, i]}
        for i in range(20)
    ]
    Path("taught.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("c.yaml").write_text(
        f"cache: cache\ndevice: cpu\nseeds: [0]\nheads: {{variants: [linear], out_features: 8}}\n"
        f"model: {{backbone: {backbone}, query_length: 12, document_length: 16}}\n"
        "train: {data: [large, small, taught.jsonl], batch_size: 4, validation_pairs: 0, log_every: 3}\n"
        "sweep: {}\neval: {datasets: [{source: large, split: train}]}\n"
    )
    return lambda *overrides: load_config(Path("c.yaml"), overrides)


def write_more():
    """Write eight taught tuples of two documents."""
    rows = [{"query": f"more {i}", "documents": [f"m {i} 0", f"m {i} 1"], "scores": [1.0, i]} for i in range(8)]
    Path("more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def source_of(data, batch):
    """The source of a batch, by its texts."""
    found = {data.queries[data.examples[row, 0]].split()[0] for row in batch}
    assert len(found) == 1
    return found.pop()


def test_every_batch_is_of_one_source_and_of_its_own_length(config):
    data = load_training_data(config())
    assert data.examples.shape == (48 + 16 + 20, 1 + WAYS)
    for batch in order_of(data, 4, 40, seed=0):
        name = source_of(data, batch)
        rows = data.examples[batch]
        assert (rows[:, 2:] >= 0).all() == (name == "taught")
        for row in rows:
            number = data.queries[row[0]].split()[2]
            assert data.documents[row[1]].split()[:2] == ([name, "text"] if name != "taught" else ["taught", number])
    assert data.teacher_scores is None


def test_the_order_depends_on_the_seed_alone_and_every_source_has_epochs(config):
    data = load_training_data(config())
    first, again, other = (list(order_of(data, 4, 60, seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    small = [batch for batch in first if source_of(data, batch) == "small"]
    assert len(np.unique(small[:4])) == 16
    assert data.mix.sources(60, 0).tolist() == [
        ["large", "small", "taught"].index(source_of(data, batch)) for batch in first
    ]
    assert data.mix.sources(7, 0).tolist() == data.mix.sources(60, 0).tolist()[:7]


@pytest.mark.parametrize(
    ("mix", "shares"),
    [
        ("{mix: [large, small, taught.jsonl]}", [48 / 84, 16 / 84, 20 / 84]),
        ("{mix: [{source: large, weight: 1}, {source: small, weight: 3}]}", [0.25, 0.75]),
        ("{mix: [large, small], temperature: 2}", [48**0.5 / (48**0.5 + 4), 4 / (48**0.5 + 4)]),
    ],
)
def test_shares(config, mix, shares):
    data = load_training_data(config(f"train.data={mix}"))
    assert data.mix.shares == pytest.approx(shares)
    drawn = Counter(data.mix.sources(20_000, 5).tolist())
    assert [drawn[place] / 20_000 for place in range(len(shares))] == pytest.approx(shares, abs=0.02)
    assert data.describe(config(f"train.data={mix}").train.data)[1].startswith("mix: large (train): 48 examples, ")


def test_taught_sources_keep_their_scores(config):
    write_more()
    data = load_training_data(config("train.data={mix: [taught.jsonl, more.jsonl]}", "train.loss=kl"))
    assert data.teacher_scores[0].tolist() == [3, 2, 0]
    assert data.teacher_scores[-1][:2].tolist() == [1, 7]
    assert np.isnan(data.teacher_scores[-1][2])


def test_held_out_pairs_come_from_all_sources_and_are_not_trained_on(config):
    data = load_training_data(config("train.validation_pairs=16"))
    held_out = {data.queries[query].split()[0] for query in data.validation[:, 0]}
    assert held_out == {"large", "small", "taught"}
    assert not set(data.examples[:, 1]) & set(data.validation[:, 1])
    assert len(load_training_data(config("train.max_pairs=40")).examples) == 40


@pytest.mark.parametrize("loss", ["contrastive", "kl"])
def test_a_mix_is_trained_and_its_lines_have_the_loss_of_each_source(config, loss):
    sources = "[large, small, taught.jsonl]"
    if loss == "kl":
        write_more()
        sources = "[taught.jsonl, more.jsonl]"
    settings = config(f"train.data={{mix: {sources}}}", f"train.loss={loss}", "train.epochs=2", "train.log_every=1")
    assert train_experiment(settings) == []
    (trial,) = ExperimentFolder(settings.output).trials()
    lines = [line for line in read_train_lines(trial.train_jsonl) if line.loss is not None]
    for line in lines:
        assert list(line.source_losses.values()) == [line.loss]
    # With rarer lines, a line has the mean of each source since the one before.
    rare = config(f"train.data={{mix: {sources}}}", f"train.loss={loss}", "train.epochs=2", "output=rare")
    train_experiment(rare)
    (other,) = ExperimentFolder(rare.output).trials()
    written = [line for line in read_train_lines(other.train_jsonl) if line.loss is not None]
    places = [line.step for line in written]
    for since, line in zip([0, *places], written, strict=False):
        steps = [one for one in lines if since < one.step <= line.step]
        expected = {}
        for one in steps:
            expected.setdefault(*one.source_losses, []).append(one.loss)
        assert line.source_losses == pytest.approx({name: np.mean(found) for name, found in expected.items()})


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.data={mix: [large]}", "a mix has at least two sources"),
        ("train.data={mix: [large, large]}", "lists a source twice"),
        ("train.data={mix: [large, small], source: pydocs}", "a mix lists its sources itself"),
        ("train.data={mix: [{source: large, weight: 1}, small]}", "give every source of the mix a weight"),
        ("train.data={source: large, temperature: 2}", "temperature is for a `mix`"),
        ("train.loss=kl", "needs teacher scores, which the pairs"),
        ("train.data={mix: [large, nowhere]}", 'unknown dataset "nowhere"'),
        ("train.validation={split: dev}", "no single collection to take a split of"),
    ],
)
def test_mistakes_in_a_mix(config, override, words):
    with pytest.raises(ProjheadsError, match=words):
        config(override)


def test_a_source_that_is_too_small_for_a_step_is_named(config):
    with pytest.raises(
        ProjheadsError, match=r"small \(train\) leaves 16 training examples, too few for one step of 17"
    ):
        load_training_data(config("train.batch_size=17"))


def test_a_single_source_is_not_a_mix(config):
    data = load_training_data(config("train.data=large"))
    assert data.mix is None
    assert data.examples.shape == (48, 2)
