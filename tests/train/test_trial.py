import pytest
import torch
from torch import nn

from projheads import build_head
from train.trial import TrainingFailedError, count_steps, train_trial, validate


def linear(seed=0):
    return build_head("linear", 16, 8, generator=torch.Generator().manual_seed(seed))


def test_training_learns(settings, problem):
    data, embed = problem
    options = settings(epochs=20, optimizer={"head_lr": 1e-2}, validations=4, loss={"temperature": 0.2})
    record = train_trial(options, linear(), None, embed, data, seed=0)
    losses = [line["loss"] for line in record.lines if "loss" in line]
    held_out = [line["validation_loss"] for line in record.lines if "validation_loss" in line]
    untrained = linear()
    assert len(losses) == 120
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert len(held_out) == 4
    assert record.validation["loss"] == held_out[-1]
    assert held_out[-1] < 0.8 * validate(options, untrained, untrained, embed, data)["loss"]


def test_the_same_seed_gives_the_same_bits_whatever_the_global_state(settings, problem):
    data, embed = problem
    heads = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        before = torch.random.get_rng_state()
        head = build_head("ffn(dropout=0.5)", 16, 8, generator=torch.Generator().manual_seed(0))
        train_trial(settings(), head, None, embed, data, seed=3)
        assert torch.equal(before, torch.random.get_rng_state())
        heads.append(head.state_dict())
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
    other = build_head("ffn(dropout=0.5)", 16, 8, generator=torch.Generator().manual_seed(0))
    train_trial(settings(), other, None, embed, data, seed=4)
    assert any(not torch.equal(heads[0][name], other.state_dict()[name]) for name in heads[0])


def test_a_loss_that_is_not_finite_stops_the_trial_with_its_reason(settings, problem):
    data, embed = problem

    class Broken(nn.Linear):
        def forward(self, x):
            return super().forward(x) * float("nan")

    with pytest.raises(TrainingFailedError, match=r"step 1: loss nan.*lower train\.optimizer\.head_lr"):
        train_trial(settings(), Broken(16, 8), None, embed, data, seed=0)


def test_packed_embeddings_are_those_of_each_text_alone(problem):
    _, embed = problem
    head = linear()
    embeddings, mask = embed(head, torch.tensor([5, 2, 9]).numpy(), is_query=False)
    for row, text in enumerate((5, 2, 9)):
        states = torch.from_numpy(embed.documents[text].astype("float32"))
        alone = nn.functional.normalize(head(states), dim=-1)
        assert mask[row].sum() == len(states)
        assert torch.allclose(embeddings[row][mask[row]], alone, atol=1e-6)
    assert not embeddings[~mask].any()


def test_bf16_stays_close_to_fp32(settings, problem):
    data, embed = problem
    losses = [
        train_trial(settings(precision=precision), linear(), None, embed, data, seed=0).loss
        for precision in ("fp32", "bf16")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]


@pytest.mark.parametrize(("options", "steps"), [({}, 6), ({"epochs": 3}, 18), ({"max_steps": 4}, 4)])
def test_number_of_steps(settings, options, steps):
    assert count_steps(settings(**options), 48) == steps
