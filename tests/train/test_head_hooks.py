"""What a third party's head may do during training: learn how far it is, and add a term to the loss."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler

from projheads import Head, build_head
from projheads.heads.residual import Residual
from train.batch import BackwardPass
from train.data.examples import order_of
from train.processes import Processes
from train.resume import ResumePoint
from train.training import train_trial


class Observant(Head):
    """W x, with a penalty on the squared length, and a matrix that exists only during training."""

    def __init__(self, in_features: int, out_features: int, *, penalty: float = 0.0) -> None:
        super().__init__(in_features, out_features)
        self.linear = nn.Linear(in_features, out_features, bias=False)
        self.penalty = penalty
        self.seen = []
        self.extra = None

    def forward(self, x):
        y = self.linear(x)
        return y if self.extra is None else y + self.extra(x)

    def reset_parameters(self):
        self.linear.reset_parameters()

    def training_progress(self, done):
        self.seen.append(done)
        if done == 0:
            self.extra = nn.Linear(self.in_features, self.out_features, bias=False)
        if done == 1:
            self.extra = None

    def training_loss(self, x):
        return self.penalty * self.linear(x).square().sum(-1).mean()


def observant(penalty=0.0):
    torch.manual_seed(0)
    return Observant(16, 8, penalty=penalty)


def gradient(settings, problem, head, **options):
    data, embed = problem
    backward = BackwardPass(
        settings(**options), head, embed, data, (), 0, GradScaler("cpu", enabled=False), Processes()
    )
    loss = backward(next(iter(order_of(data, 8, 1, 0))), ("dropout", 1, 0))
    return loss.item(), next(module for module in head.modules() if isinstance(module, nn.Linear)).weight.grad


def states_of(problem):
    data, embed = problem
    rows = data.examples[next(iter(order_of(data, 8, 1, 0)))]
    states = [embed.queries[int(i)] for i in rows[:, 0]] + [embed.documents[int(i)] for i in rows[:, 1]]
    return torch.from_numpy(np.concatenate(states)).float()


@pytest.mark.parametrize("options", [{}, {"mini_batch_size": 3}])
@pytest.mark.parametrize("nested", [False, True])
def test_the_term_is_its_mean_over_the_tokens_of_the_batch(settings, problem, options, nested):
    def head(penalty):
        if not nested:
            return observant(penalty)
        torch.manual_seed(0)
        outer = Residual(16, 8)
        outer.inner = observant(penalty)
        return outer

    plain, plain_gradient = gradient(settings, problem, head(0.0), **options)
    loss, with_term = gradient(settings, problem, head(0.25), **options)
    inner = observant()
    term = 0.25 * inner.linear(states_of(problem)).square().sum(-1).mean()
    term.backward()
    assert loss == pytest.approx(plain + term.item(), rel=1e-5)
    torch.testing.assert_close(with_term, plain_gradient + inner.linear.weight.grad, rtol=1e-4, atol=1e-6)


def test_a_head_learns_how_far_its_training_is_and_may_have_other_parameters_meanwhile(settings, problem):
    data, embed = problem
    head = observant()
    log = train_trial(settings(max_steps=4), head, None, embed, data, seed=0)
    assert head.seen == [0.0, 0.0, 0.25, 0.5, 0.75, 1.0]
    assert [name for name, _ in head.named_parameters()] == ["linear.weight"]
    assert len(log.losses) == 4


def guided():
    return build_head("structured(kind=block_shuffle, guide=0.6)", 16, 8)


def test_a_stopped_self_guided_trial_ends_with_the_same_bits(settings, problem, tmp_path):
    data, embed = problem
    options = settings(max_steps=5)
    whole, stopped, resumed = guided(), guided(), guided()
    train_trial(options, whole, None, embed, data, seed=0)
    assert {name for name, _ in whole.named_parameters()} == {name for name, _ in guided().named_parameters()}

    def stop(step, log):
        if step == 2:
            raise KeyboardInterrupt

    point = ResumePoint(tmp_path / "resume", "key", 1)
    with pytest.raises(KeyboardInterrupt):
        train_trial(options, stopped, None, embed, data, seed=0, resume=point, on_step=stop)
    train_trial(options, resumed, None, embed, data, seed=0, resume=point)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_self_guided_training_differs_from_training_without(settings, problem):
    data, embed = problem
    heads = [guided(), build_head("structured(kind=block_shuffle)", 16, 8)]
    start = copy.deepcopy(heads[0].state_dict())
    assert all(torch.equal(tensor, heads[1].state_dict()[name]) for name, tensor in start.items())
    for head in heads:
        train_trial(settings(max_steps=3), head, None, embed, data, seed=0)
    assert any(not torch.equal(tensor, heads[1].state_dict()[name]) for name, tensor in heads[0].state_dict().items())


def test_the_load_balancing_term_reaches_the_router(settings, problem):
    _, plain = gradient(settings, problem, build_head("moe(balance=0)", 16, 8))
    _, balanced = gradient(settings, problem, build_head("moe(balance=1)", 16, 8))
    assert not torch.allclose(plain, balanced)
