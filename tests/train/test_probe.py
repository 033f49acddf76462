"""What the probe of a training measures, and that it leaves the training alone."""

import numpy as np
import pytest
import torch
from torch import nn

from experiment.losses import contrastive_loss
from experiment.spectra import effective_rank
from projheads import build_head
from train.probe import Probe, gini
from train.resume import ResumePoint
from train.training import train_trial


def new_head(spec='ffn(dropout=0.5, activation="gelu")', seed=0):
    return build_head(spec, 16, 8, generator=torch.Generator().manual_seed(seed))


def trained(settings, problem, *, probed, resume=None, **changes):
    data, embed = problem
    head = new_head()
    log = train_trial(settings(**changes), head, None, embed, data, seed=3, probed=probed, resume=resume)
    return head, log


def points(log):
    return {line["probe"]["when"]: line for line in log.lines if "probe" in line}


@pytest.mark.parametrize("changes", [{}, {"average": 0.9}, {"mini_batch_size": 3}])
def test_training_has_the_same_bits_with_and_without_it(settings, problem, changes):
    before = torch.random.get_rng_state()
    plain, log = trained(settings, problem, probed=False, **changes)
    probed, with_probe = trained(settings, problem, probed=True, **changes)
    assert torch.equal(before, torch.random.get_rng_state())
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, probed.state_dict()[name])
    assert log.losses == with_probe.losses
    assert not points(log)
    found = points(with_probe)
    assert list(found) == ["start", "middle", "end"]
    steps = len(log.losses)
    assert [line["step"] for line in found.values()] == [0, steps // 2, steps]
    assert all(line["probe"]["changed"] is not None for line in found.values())


@pytest.mark.parametrize("stopped_after", [1, 2, 3, 4, 5])
def test_a_stopped_trial_records_the_same_probes(settings, problem, tmp_path, stopped_after):
    expected = points(trained(settings, problem, probed=True)[1])

    def stop(step, log):
        if step == stopped_after:
            raise KeyboardInterrupt

    data, embed = problem
    point = ResumePoint(tmp_path / "resume", "key", 1)
    with pytest.raises(KeyboardInterrupt):
        train_trial(settings(), new_head(), None, embed, data, seed=3, probed=True, resume=point, on_step=stop)
    resumed = points(trained(settings, problem, probed=True, resume=point)[1])
    assert resumed == expected


def test_its_numbers_are_those_of_a_plain_computation(settings, problem):
    """A linear head on the full batch: every number from autograd and dense algebra."""
    data, embed = problem
    head = new_head("linear")
    probe = Probe(settings(loss={"temperature": 0.2}), head, head, embed, data, (), steps=10)
    assert probe(0) == []
    with torch.no_grad():
        moved = new_head("linear", seed=1)
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    batch = data.examples[np.arange(min(32, len(data.examples))) * len(data.examples) // min(32, len(data.examples))]
    sides, weight = [], head.linear.weight.detach().double().requires_grad_()
    for store, column in ((embed.queries, 0), (embed.documents, 1)):
        states = [torch.from_numpy(store[int(text)].astype("float64")) for text in batch[:, column]]
        sides.append(states)
    ours, theirs = ([nn.functional.normalize(x @ weight.T, dim=-1) for x in side] for side in sides)
    scores = torch.stack([torch.stack([(q @ d.T).amax(1).sum() for d in theirs]) for q in ours])
    loss = contrastive_loss(scores, 0.2, torch.from_numpy(data.false_negatives(batch)))
    gradient = torch.autograd.grad(loss, weight)[0]
    winners = [(q @ d.T).argmax(1).tolist() for q, d in zip(ours, theirs, strict=True)]
    head.load_state_dict(moved.state_dict())
    (line,) = probe(1)
    point = line.probe
    values = torch.linalg.svdvals(gradient)
    share = values / values.sum()
    assert line.step == 0
    assert point.gradient_rank == pytest.approx(float(torch.exp(-(share * share.log()).sum())), rel=1e-3)
    assert point.gradient_energy["1"] == pytest.approx(float(values[0] ** 2 / (values**2).sum()), rel=1e-3)
    tokens = sum(len(d) for d in theirs)
    assert point.winners == pytest.approx(sum(len(set(one)) for one in winners) / tokens)
    everything = {(j, int(k)) for q in ours for j, d in enumerate(theirs) for k in (q @ d.T).argmax(1)}
    assert point.winners_in_batch == pytest.approx(len(everything) / tokens)
    with torch.no_grad():
        after = [
            (nn.functional.normalize(q @ moved.linear.weight.double().T, dim=-1)
             @ nn.functional.normalize(d @ moved.linear.weight.double().T, dim=-1).T).argmax(1).tolist()
            for q, d in zip(*sides, strict=True)
        ]  # fmt: skip
    changes = [a != b for one, other in zip(winners, after, strict=True) for a, b in zip(one, other, strict=True)]
    assert point.changed == pytest.approx(np.mean(changes))
    spectrum = torch.linalg.svdvals(before["linear.weight"].double())
    share = spectrum / spectrum.sum()
    assert point.map_rank == pytest.approx(float(torch.exp(-(share * share.log()).sum())), rel=1e-6)
    outputs = torch.cat([x for side in sides for x in side]) @ before["linear.weight"].double().T
    first, other = outputs.T @ outputs, before["linear.weight"].double() @ before["linear.weight"].double().T
    assert point.alignment["R-W"] == pytest.approx(float((first * other).sum() / first.norm() / other.norm()), rel=1e-5)
    assert all(parameter.grad is None for parameter in head.parameters())


def test_the_map_of_a_non_linear_head_is_its_least_squares_fit(settings, problem):
    data, embed = problem
    head = new_head('ffn(activation="identity")')
    exact = Probe(settings(), head, head, embed, data, (), steps=1)
    exact(0)
    linear = exact(1)[0].probe.map_rank

    class Opaque(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = head

        def forward(self, x):
            return self.inner(x)

    hidden = Opaque()
    fitted = Probe(settings(), hidden, hidden, embed, data, (), steps=1)
    fitted(0)
    assert fitted(1)[0].probe.map_rank == pytest.approx(linear, rel=1e-3)


def test_known_values():
    assert effective_rank(np.ones(5)) == pytest.approx(5.0)
    assert effective_rank(np.array([2.0, 0.0])) == pytest.approx(1.0)
    assert effective_rank(np.zeros(3)) is None
    assert gini(np.array([3, 3, 3])) == pytest.approx(0.0)
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(0.75)
    assert gini(np.array([1, 3])) == pytest.approx(np.abs(np.subtract.outer([1, 3], [1, 3])).sum() / (2 * 4 * 2))
