import pytest
import torch
from torch import nn
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from experiment.config import OptimizerConfig, TrainConfig
from train.optimization import (
    add_gradient_noise,
    count_steps,
    learning_rate_factor,
    make_optimizers,
    set_learning_rates,
)


def settings(**options):
    return TrainConfig(data="pydocs", **options)


@pytest.mark.parametrize(
    ("schedule", "reference"),
    [("linear", get_linear_schedule_with_warmup), ("cosine", get_cosine_schedule_with_warmup)],
)
def test_schedule_is_that_of_transformers_one_step_on_in_the_warm_up(schedule, reference):
    """Ours makes its first step with a rate above 0; from the end of the warm-up on both are the same."""
    steps, warmup = 50, 5
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = reference(optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    for step in range(steps):
        ours = learning_rate_factor(step, steps, warmup, schedule)
        if step < warmup:
            assert ours == pytest.approx((step + 1) / warmup)
        else:
            assert ours == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_constant_schedule_and_no_warm_up():
    assert [learning_rate_factor(step, 4, 0, "constant") for step in range(4)] == [1.0] * 4
    assert [learning_rate_factor(step, 4, 2, "constant") for step in range(4)] == [0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(("most", "steps"), [(None, 8), (5, 5), (50, 8)])
def test_an_epoch_has_as_many_steps_as_full_batches(most, steps):
    options = settings(epochs=2, batch_size=8, gradient_accumulation=3, max_steps=most)
    assert count_steps(options, 103) == steps


def optimizer_settings(**options):
    return settings(optimizer=OptimizerConfig(head_lr=1e-2, backbone_lr=1e-4, **options))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.layer, self.norm, self.head = (
            nn.Embedding(5, 4),
            nn.Linear(4, 4),
            nn.LayerNorm(4),
            nn.Linear(4, 2),
        )


def test_head_and_backbone_have_their_own_rates_and_vectors_do_not_decay():
    model = Model()
    options = optimizer_settings(head_weight_decay=0.5, backbone_weight_decay=0.1)
    (optimizer,) = make_optimizers(options, model.head, model)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert found == {
        id(model.head.weight): (1e-2, 0.5),
        id(model.head.bias): (1e-2, 0.0),
        id(model.table.weight): (1e-4, 0.1),
        id(model.layer.weight): (1e-4, 0.1),
        id(model.layer.bias): (1e-4, 0.0),
        id(model.norm.weight): (1e-4, 0.0),
        id(model.norm.bias): (1e-4, 0.0),
    }


def test_what_is_frozen_is_left_to_no_optimiser():
    model = Model()
    model.layer.requires_grad_(False)
    (optimizer,) = make_optimizers(optimizer_settings(), model.head, model)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert id(model.layer.weight) not in held
    assert len(held) == 5


def test_muon_takes_the_matrices_and_adamw_the_rest():
    model = Model()
    muon, adamw = make_optimizers(optimizer_settings(name="muon"), model.head, model)
    assert isinstance(muon, torch.optim.Muon)
    matrices = {id(p): group["lr"] for group in muon.param_groups for p in group["params"]}
    assert matrices == {id(model.head.weight): 1e-2, id(model.layer.weight): 1e-4}
    others = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert others == {id(p) for p in model.parameters()} - matrices.keys()


def test_muons_first_step_is_orthogonal_and_of_the_size_of_adamws():
    """With singular values near one, the step's root mean square is 0.2 times the learning rate (Liu et al., 2025)."""
    head = nn.Linear(32, 16, bias=False)
    before = head.weight.detach().clone()
    (muon,) = make_optimizers(optimizer_settings(name="muon"), head, head)
    head.weight.grad = torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
    muon.step()
    step = (before - head.weight.detach()) / 1e-2
    singular = torch.linalg.svdvals(step)
    assert singular.max() / singular.min() < 2
    assert step.pow(2).mean().sqrt().item() == pytest.approx(0.2, rel=0.25)


def test_learning_rates_depend_on_the_step_alone():
    model = Model()
    options = settings(optimizer=OptimizerConfig(head_lr=1e-2, backbone_lr=1e-4), warmup_ratio=0.2)
    optimizers = make_optimizers(options, model.head, model)
    assert set_learning_rates(optimizers, options, 7, 10) == pytest.approx(1e-2 * 4 / 8)
    assert set_learning_rates(optimizers, options, 1, 10) == pytest.approx(1e-2 / 2)
    assert sorted({group["lr"] for group in optimizers[0].param_groups}) == pytest.approx([5e-5, 5e-3])


def test_gradient_noise_falls_as_the_paper_says_and_repeats():
    def noise(step, seed=0):
        parameter = nn.Parameter(torch.zeros(100_000))
        parameter.grad = torch.zeros(100_000)
        add_gradient_noise([parameter], 0.3, seed, step)
        return parameter.grad

    for step in (1, 100):
        assert noise(step).var().item() == pytest.approx(0.3 / step**0.55, rel=0.02)
        assert abs(noise(step).mean().item()) < 0.01
    assert torch.equal(noise(5), noise(5))
    assert not torch.equal(noise(5), noise(5, seed=1))
