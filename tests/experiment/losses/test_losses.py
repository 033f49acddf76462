import math
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from experiment.config import grid_points
from experiment.config.load import dump_config, load_config
from experiment.fields import Positive, Section
from experiment.losses import KL, LOSSES, Contrastive, MarginMSE, contrastive_loss, pair_accuracy
from projheads.errors import ProjheadsError


def test_contrastive_loss_is_the_formula():
    scores = torch.tensor([[3.0, 1.0, 0.5], [0.0, 2.0, 1.0]], dtype=torch.float64)
    ignore = torch.tensor([[False, False, True], [False, False, False]])
    first = -math.log(math.exp(3 / 0.5) / (math.exp(3 / 0.5) + math.exp(1 / 0.5)))
    second = -math.log(math.exp(2 / 0.5) / sum(math.exp(value / 0.5) for value in (0, 2, 1)))
    assert float(contrastive_loss(scores, 0.5, ignore)) == pytest.approx((first + second) / 2, abs=1e-12)


def test_hard_negatives_stand_between_the_relevant_documents():
    scores = np.random.default_rng(0).normal(size=(4, 12))
    expected = -log_softmax(scores / 0.3, axis=1)[np.arange(4), np.arange(4) * 3].mean()
    loss = Contrastive(temperature=0.3)
    square = torch.tensor(scores[:, :4])
    assert float(loss(square)) == float(loss(square, n_ways=1)) == float(contrastive_loss(square, 0.3))
    assert (loss.scope, loss.needs_teacher) == ("batch", False)
    assert float(loss(torch.tensor(scores), n_ways=3)) == pytest.approx(expected, abs=1e-12)
    # Documents of other processes come last: they are negatives like the others.
    assert float(loss(torch.tensor(scores[:2]), n_ways=3)) == pytest.approx(
        -log_softmax(scores[:2] / 0.3, axis=1)[[0, 1], [0, 3]].mean(), abs=1e-12
    )


def test_temperatures_are_one_unless_given():
    scores, taught = np.random.default_rng(2).normal(size=(2, 3, 3))
    expected = -log_softmax(scores, axis=1).diagonal().mean()
    for loss in (Contrastive(), contrastive_loss):
        assert float(loss(torch.tensor(scores))) == pytest.approx(expected, abs=1e-12)
    p, q = softmax(taught, axis=1), softmax(scores, axis=1)
    found = KL(name="kl")(torch.tensor(scores), teacher=torch.tensor(taught))
    assert float(found) == pytest.approx((p * np.log(p / q)).sum(1).mean(), abs=1e-12)


def test_an_ignored_document_gets_no_gradient():
    scores = torch.zeros(2, 2, requires_grad=True)
    contrastive_loss(scores, ignore=torch.tensor([[False, True], [False, False]])).backward()
    assert scores.grad is not None
    assert scores.grad[0].tolist() == [0.0, 0.0]
    assert scores.grad[1].tolist() == [0.25, -0.25]


NORMALIZE = {
    "none": lambda x: x,
    "min-max": lambda x: (x - x.min(1, keepdims=True)) / (x.max(1, keepdims=True) - x.min(1, keepdims=True)),
    "z": lambda x: (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True),
}


@pytest.mark.parametrize("student", NORMALIZE)
@pytest.mark.parametrize("teacher", NORMALIZE)
def test_kl_is_the_formula(student, teacher):
    generator = np.random.default_rng(1)
    scores, taught = generator.normal(size=(2, 5, 4)) * 3
    p = softmax(NORMALIZE[teacher](taught) / 0.7, axis=1)
    q = softmax(NORMALIZE[student](scores) / 2.5, axis=1)
    expected = 2.5**2 * (p * np.log(p / q)).sum(1).mean()
    loss = KL(temperature=2.5, teacher_temperature=0.7, student_normalization=student, teacher_normalization=teacher)
    assert (loss.scope, loss.needs_teacher) == ("tuple", True)
    found = float(loss(torch.tensor(scores), teacher=torch.tensor(taught)))
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("how", ["min-max", "z"])
def test_equal_scores_are_a_uniform_teacher_and_finite(how):
    loss = KL(name="kl", teacher_normalization=how, student_normalization=how)
    scores = torch.full((2, 3), 5.0, requires_grad=True)
    value = loss(scores, teacher=torch.full((2, 3), 7.0))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize(("how", "scores"), [("min-max", [0.0, 1e-8]), ("z", [0.0, 2e-8])])
def test_a_spread_of_a_hundred_millionth_is_halved(how, scores):
    """That much is added to the spread: both pairs come out 0.5 or 1 apart instead of 1 or 2."""
    loss = KL(name="kl", student_normalization=how)
    apart = 0.5 if how == "min-max" else 1.0
    found = loss(torch.tensor([scores], dtype=torch.float64), teacher=torch.zeros(1, 2, dtype=torch.float64))
    q = softmax([0.0, apart])
    assert float(found) == pytest.approx(float((0.5 * np.log(0.5 / q)).sum()), rel=1e-9)


def test_margin_mse_is_the_formula():
    scores = torch.tensor([[5.0, 3.0, 1.0], [2.0, 2.0, 0.0]])
    teacher = torch.tensor([[1.0, 0.5, 0.0], [3.0, 1.0, 2.0]])
    expected = np.mean([(2 - 0.5) ** 2, (4 - 1) ** 2, (0 - 2) ** 2, (2 - 1) ** 2])
    loss = MarginMSE(name="margin-mse")
    assert (loss.scope, loss.needs_teacher, loss.temperature) == ("tuple", True, 1.0)
    assert float(loss(scores, teacher=teacher)) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [KL(name="kl"), MarginMSE(name="margin-mse")], ids=str)
@pytest.mark.parametrize("teacher", [None, torch.zeros(2, 2), torch.zeros(3)])
def test_teacher_scores_of_another_shape_are_refused(loss, teacher):
    with pytest.raises(ValueError, match=r"needs teacher scores \(2, 3\)"):
        loss(torch.zeros(2, 3), teacher=teacher)


def test_accuracy_counts_a_tie_as_lost():
    scores = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 1.0], [5.0, 0.0, 1.0]])
    assert pair_accuracy(scores) == pytest.approx(1 / 3)
    ignore = torch.tensor([[False, True, False], [False, False, False], [True, False, False]])
    assert pair_accuracy(scores, ignore) == 1.0
    assert pair_accuracy(torch.tensor([[2.0, 1.0, 1.0], [3.0, 1.0, 0.0], [3.0, 0.0, 1.0]])) == pytest.approx(1 / 3)


class Hinge(Section):
    """Hinge of each query's first document against its others.

    Attributes:
        name: ``hinge``.
        margin: By how much the first document should win.
    """

    scope: ClassVar[str] = "tuple"
    needs_teacher: ClassVar[bool] = False
    temperature: ClassVar[float] = 1.0

    name: Literal["hinge"] = "hinge"
    margin: Positive = 1.0

    def __call__(self, scores, *, n_ways=1, ignore=None, teacher=None):
        return (self.margin - scores[:, :1] + scores[:, 1:]).clamp(min=0).mean()


def test_a_new_loss_is_one_entry_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setitem(LOSSES, "hinge", Hinge)
    path = tmp_path / "experiment.yaml"

    def load(loss):
        path.write_text(
            f"heads: {{variants: [linear]}}\ntrain: {{data: pydocs, loss: {loss}}}\neval: {{datasets: [pydocs]}}\n"
        )
        return load_config(path, ["output=out"])

    assert load("hinge").train.loss == Hinge()
    config = load("{name: hinge, margin: 2}")
    assert float(config.train.loss(torch.tensor([[3.0, 0.0, 2.5]]))) == 0.75
    path.write_text(dump_config(config))
    assert load_config(path) == config
    for wrong, line in (
        ("hnge", 'unknown loss "hnge"; known: contrastive, hinge, kl, margin-mse; did you mean "hinge"?'),
        (
            "{name: hinge, magrin: 2}",
            'train.loss.magrin: unknown key; known here: name, margin; did you mean "margin"?',
        ),
    ):
        with pytest.raises(ProjheadsError) as error:
            load(wrong)
        assert line in str(error.value)
    assert [point.settings.loss.margin for point in grid_points({"loss.margin": (1, 3)}, config.train)] == [1.0, 3.0]


def test_the_page_of_the_configuration_finds_a_new_loss(monkeypatch):
    pytest.importorskip("griffe")
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "docs" / "generate")
    from config_page import config_page

    monkeypatch.setitem(LOSSES, "hinge", Hinge)
    page = config_page()
    assert "## `train.loss`: hinge" in page
    assert "By how much the first document should win." in page
