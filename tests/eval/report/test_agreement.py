import json

import numpy as np
import pytest
from scipy.stats import kendalltau

from eval.__main__ import main
from eval.report.agreement import agreement_value
from experiment.disk.records import EvaluationRecord
from projheads.errors import ProjheadsError
from tests.eval.report.factory import Plan, make_experiment

EFFECTS = {"linear": 0.0, "a": -0.1, "b": 0.1, "c": 0.2, "d": 0.15}


def made(path, **options):
    plan = Plan(effects=EFFECTS, datasets=("NanoNQ", "nq", "other"), queries=40, **options)
    folder = make_experiment(path, plan)
    for file in folder.glob("*/*/*/eval/*.json"):
        record = EvaluationRecord.read(file)
        source = {"NanoNQ": "nano:nq", "nq": "beir:nq"}.get(record.dataset.name, "x/y")
        record.replace(dataset=record.dataset.replace(source=source)).write(file)
    return folder


def test_tau_and_means_are_those_of_the_scores(tmp_path):
    folder = made(tmp_path / "x", noise_sd=0.2)
    found = agreement_value(folder, ["suite:nanobeir"], ["nq", "other"])
    assert (found.small, found.large) == (("NanoNQ",), ("nq", "other"))
    means = {}
    for label in EFFECTS:
        records = [
            EvaluationRecord.read(path)
            for path in folder.glob("trials/*/*/eval/*.json")
            if json.loads((path.parent.parent / "trial.json").read_text())["label"] == label
        ]
        means[label] = [
            np.mean([one.means["nDCG@10"] for one in records if one.dataset.name in names])
            for names in (("NanoNQ",), ("nq", "other"))
        ]
        assert found.means[label] == pytest.approx(means[label])
    small, large = zip(*means.values(), strict=True)
    assert found.tau == pytest.approx(kendalltau(small, large).statistic)
    assert -1 <= found.low <= found.tau <= found.high <= 1
    assert found.same == round((found.tau + 1) / 2 * found.pairs)


def test_more_noise_widens_the_interval(tmp_path):
    clear = agreement_value(made(tmp_path / "clear", noise_sd=0.001, query_sd=0.001, seed_sd=0.001), ["NanoNQ"], ["nq"])
    noisy = agreement_value(made(tmp_path / "noisy", noise_sd=0.9), ["NanoNQ"], ["nq"])
    assert (clear.tau, clear.low, clear.high) == pytest.approx((1, 1, 1))
    assert clear.best_in_common
    assert noisy.high - noisy.low > 0.3


def test_the_command_prints_it(tmp_path, capsys):
    folder = made(tmp_path / "x")
    main(["agree", str(folder), "--small", "suite:nanobeir", "--large", "suite:beir"])
    out = capsys.readouterr().out
    assert "Kendall's tau" in out
    assert "of 10 pairs of variants alike" in out
    main(["agree", str(folder), "--small", "NanoNQ", "--large", "nq", "--json"])
    assert json.loads(capsys.readouterr().out)["pairs"] == 10


@pytest.mark.parametrize(
    ("small", "large", "words"),
    [
        (["nq"], ["nq", "other"], "nq is in both lists"),
        (["NanoN"], ["nq"], 'did you mean "NanoNQ"'),
        (["suite:lotte"], ["nq"], "has no dataset of suite:lotte"),
    ],
)
def test_lists_that_cannot_be_compared(tmp_path, small, large, words):
    with pytest.raises(ProjheadsError, match=words):
        agreement_value(made(tmp_path / "x"), small, large)


def test_two_variants_are_too_few(tmp_path):
    folder = make_experiment(tmp_path / "x", Plan(effects={"linear": 0.0, "a": 0.1}, datasets=("p", "q"), queries=5))
    with pytest.raises(ProjheadsError, match="2 variants have scores; ranking them needs at least 3"):
        agreement_value(folder, ["p"], ["q"])
