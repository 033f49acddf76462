import pytest
import torch
from torch import nn
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from experiment.config import OptimizerConfig, TrainConfig
from train.optimization import learning_rate_factor, make_optimizer, make_scheduler


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


def test_groups_have_their_own_rates_and_vectors_do_not_decay():
    options = OptimizerConfig(head_lr=1e-2, backbone_lr=1e-4, weight_decay=0.5)
    head, backbone = nn.Linear(3, 2), nn.LayerNorm(4)
    optimizer = make_optimizer(settings(optimizer=options), head, backbone.parameters())
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(head.weight)] == (1e-2, 0.5)
    assert rates[id(head.bias)] == (1e-2, 0.0)
    assert rates[id(backbone.weight)] == (1e-4, 0.0)
    scheduler = make_scheduler(settings(optimizer=options, warmup_ratio=0.2), optimizer, 10)
    assert scheduler.get_last_lr()[0] == pytest.approx(1e-2 / 2)
