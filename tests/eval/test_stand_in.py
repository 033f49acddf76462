"""What the linear stand-in of a trained head scores, and what it was fitted on."""

import json

import numpy as np
import pytest
import torch

from eval.evaluate import evaluate_experiment
from eval.stand_in import stand_in_states
from experiment.console.progress import Progress
from experiment.encoding.store import TokenStore, offsets_of
from projheads import fold, linearise

GELU = "ffn-activation=gelu"


def evaluate(config):
    with Progress() as progress:
        evaluate_experiment(config, progress)


def record(miniature, slug, seed=0):
    return json.loads(miniature.folder.trial(slug, seed).eval_json("odd").read_text())


def test_a_head_that_is_not_linear_has_a_stand_in_and_a_linear_one_has_none(miniature):
    evaluate(miniature.config())
    assert record(miniature, "linear")["linearised"] is None
    found = record(miniature, GELU)
    linearised = found["linearised"]
    assert 0 < linearised["r2"] < 1
    assert 0 < linearised["mean_cosine"] < 1
    assert linearised["fitted_on"] in ("queries and unjudged documents", "queries and documents")
    assert linearised["states"]["held_out"] == pytest.approx(linearised["states"]["fitted"] / 4, abs=1)
    for name, values in linearised["measures"].items():
        assert values.keys() == found["measures"][name].keys()
        assert linearised["means"][name] == pytest.approx(np.mean(list(values.values())), abs=1e-12)
    for kind in ("untrained", "backbone", "bm25"):
        assert json.loads(miniature.folder.reference(kind).eval_json("odd").read_text())["linearised"] is None


def test_its_scores_are_those_of_a_trial_with_the_stand_in_as_its_head(miniature, retrain, monkeypatch):
    """Evaluated twice: as a stand-in of the head, and as the folded linear head of a separate model."""
    kept = []

    def keep(head, states):
        kept.append(linearise(head, states))
        return kept[-1]

    monkeypatch.setattr("eval.stand_in.linearise", keep)
    evaluate(miniature.config())
    files = miniature.folder.trial("linear", 0)
    from experiment.disk.models import weights_hash
    from projheads.hosts.head_files import load_head, save_head

    head = load_head(files.model / "1_Head")
    assert fold(head).weight.shape == kept[0].linear.weight.shape
    with torch.no_grad():
        head.linear.weight.copy_(kept[0].linear.weight)
    save_head(head, files.model / "1_Head")
    miniature.change_trial("linear", 0, weights_hash=weights_hash(files.model))
    evaluate(miniature.config())
    assert record(miniature, "linear")["measures"] == record(miniature, GELU)["linearised"]["measures"]


def test_it_can_be_left_out_and_asked_for_later(miniature):
    evaluate(miniature.config("eval.linearise=false"))
    assert record(miniature, GELU)["linearised"] is None
    linear = miniature.folder.trial("linear", 0).eval_json("odd").stat().st_mtime_ns
    evaluate(miniature.config())
    assert record(miniature, GELU)["linearised"] is not None
    assert miniature.folder.trial("linear", 0).eval_json("odd").stat().st_mtime_ns == linear


def test_a_model_trained_whole_has_none(miniature, retrain):
    config = miniature.config("train.trainable=all", f"output={miniature.folder.path.parent / 'all'}")
    retrain(config)
    evaluate(config)
    file = config.output / "trials" / GELU / "seed-0" / "eval" / "odd.json"
    assert json.loads(file.read_text())["linearised"] is None


def stored(texts, rows, width, first):
    """A store whose vectors hold the number of their text, counted from ``first``."""
    lengths = np.full(texts, rows, np.int64)
    vectors = np.repeat(np.arange(first, first + texts), rows)[:, None] * np.ones((1, width))
    return TokenStore(vectors.astype(np.float16), offsets_of(lengths))


def test_states_are_of_both_sides_evenly_and_of_no_judged_document():
    queries, documents = stored(10, 2, 1, 1000), stored(40, 3, 1, 0)
    names = [f"d{number}" for number in range(40)]
    states, name = stand_in_states(queries, documents, names, {"d0", "d1", "d39", "elsewhere"})
    assert name == "queries and unjudged documents"
    assert states.dtype == torch.float32
    texts = states[:, 0].tolist()
    assert set(texts) == {*range(1000, 1010), *range(2, 39)}
    held_out = texts[-len(texts) // 5 :]
    assert sum(text >= 1000 for text in held_out) == pytest.approx(20 / 5, abs=2)


def test_judged_documents_are_taken_where_there_are_too_few_others():
    queries, documents = stored(4, 2, 1, 1000), stored(5, 3, 1, 0)
    states, name = stand_in_states(queries, documents, list("abcde"), set("abc"))
    assert name == "queries and documents"
    assert {0.0, 1.0, 2.0, 3.0, 4.0} <= set(states[:, 0].tolist())


def test_large_collections_are_thinned_out_evenly(monkeypatch):
    monkeypatch.setattr("eval.stand_in.MOST_STATES", 30)
    states, _ = stand_in_states(stored(10, 2, 1, 1000), stored(100, 3, 1, 0), list(map(str, range(100))), set())
    assert len(states) == 20 + 30
    assert {0.0, 10.0, 90.0} <= set(states[:, 0].tolist())
