import numpy as np
import pytest
import torch
from torch import nn

from projheads import build_head
from projheads.scoring import maxsim
from train.data.examples import order_of
from train.embedding.embedders import pad
from train.failures import TrainingFailedError
from train.optimization import count_steps
from train.resume import ResumePoint
from train.training import train_trial
from train.validation import validate


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
    embeddings, mask = pad(*embed(head, torch.tensor([5, 2, 9]).numpy(), is_query=False))
    for row, text in enumerate((5, 2, 9)):
        states = torch.from_numpy(embed.documents[text].astype("float32"))
        alone = nn.functional.normalize(head(states), dim=-1)
        assert mask[row].sum() == len(states)
        assert torch.allclose(embeddings[row][mask[row]], alone, atol=1e-6)
    assert not embeddings[~mask].any()


def test_bf16_stays_close_to_fp32(settings, problem):
    data, embed = problem
    exact, *losses = [
        train_trial(settings(precision=precision), linear(), None, embed, data, seed=0).loss
        for precision in ("fp32", "bf16", "fp16")
    ]
    assert losses == [pytest.approx(exact, rel=0.02)] * 2
    assert exact not in losses


def test_in_fp16_a_gradient_that_overflows_is_passed_over_and_the_scale_falls(settings, problem):
    data, embed = problem

    class Overflows(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            if y.requires_grad:
                y.register_hook(lambda gradient: gradient * torch.where(gradient.abs().max() > 1e3, torch.inf, 1.0))
            return y

    record = train_trial(settings(precision="fp16", epochs=20), Overflows(16, 8), None, embed, data, seed=0)
    norms = [line["gradient_norm"] for line in record.lines if "loss" in line]
    assert norms[0] is None
    assert norms[-1] is not None
    assert record.loss < record.losses[0]


@pytest.mark.parametrize(("limit", "share"), [(1e-6, 1.0), (1e6, 0.0), (None, 0.0)])
def test_the_steps_whose_gradient_was_clipped_are_counted(settings, problem, limit, share):
    data, embed = problem
    log = train_trial(settings(max_grad_norm=limit, max_steps=5), linear(), None, embed, data, seed=0)
    assert log.clipped == share * 5


def test_the_limit_between_two_norms_clips_the_larger_one(settings, problem):
    data, embed = problem
    norms = [
        line["gradient_norm"]
        for line in train_trial(
            settings(max_grad_norm=None, max_steps=2, log_every=1), linear(), None, embed, data, 0
        ).lines
        if "loss" in line
    ]
    between = train_trial(settings(max_grad_norm=sum(norms) / 2, max_steps=2), linear(), None, embed, data, seed=0)
    assert (len(norms), between.clipped) == (2, 1)


def test_accumulated_batches_make_one_step_of_their_mean(settings, problem):
    data, embed = problem
    together = linear()
    train_trial(
        settings(batch_size=4, gradient_accumulation=3, max_steps=1, max_grad_norm=None), together, None, embed, data, 5
    )
    alone = []
    order = next(iter(order_of(data, 12, 1, 5)))
    for part in range(3):
        head = linear()
        rows = data.examples[order[4 * part : 4 * part + 4]]
        queries, documents = (pad(*embed(head, rows[:, side], is_query=side == 0)) for side in (0, 1))
        scores = maxsim(queries[0], documents[0], queries[1], documents[1])
        nn.functional.cross_entropy(scores, torch.arange(4)).backward()
        alone.append(next(head.parameters()).grad)
    head = linear()
    parameter = next(head.parameters())
    parameter.grad = sum(alone) / 3
    torch.optim.AdamW([parameter], lr=1e-3, weight_decay=0.0).step()
    assert torch.allclose(next(together.parameters()), parameter, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "steps"), [({}, 6), ({"epochs": 3}, 18), ({"max_steps": 4}, 4), ({"gradient_accumulation": 4}, 1)]
)
def test_number_of_steps(settings, options, steps):
    assert count_steps(settings(**options), 48) == steps


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": {"name": "muon", "gradient_noise": 0.01}, "gradient_accumulation": 2},
        {"precision": "fp16", "mini_batch_size": 3},
        {},
    ],
)
def test_stopped_anywhere_it_ends_with_the_same_bits(settings, problem, tmp_path, options, monkeypatch):
    data, embed = problem
    options = settings(epochs=4, resume_every=3, validations=2, **options)

    def trial(resume=None, **more):
        head = build_head("ffn(dropout=0.3)", 16, 8, generator=torch.Generator().manual_seed(0))
        record = train_trial(options, head, None, embed, data, seed=1, resume=resume, **more)
        return head.state_dict(), record

    weights, undisturbed = trial()
    resume = ResumePoint(tmp_path / "resume", "key", options.resume_every)
    for stop in (2, 4, 3, 7):

        def kill(step, record, stop=stop):
            if step == stop:
                raise Killed

        with pytest.raises(Killed):
            trial(resume, on_step=kill)
    # Killed in the middle of writing a point, too.
    write = "train.resume.write_json"
    with monkeypatch.context() as patch:
        patch.setattr(write, lambda path, value: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            trial(resume)
    steps = []
    resumed, record = trial(resume, on_step=lambda step, record: steps.append(step))
    assert steps[0] == 6
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    assert record.losses == undisturbed.losses
    assert record.validation == undisturbed.validation
    assert [line["step"] for line in record.lines] == [line["step"] for line in undisturbed.lines]


def test_a_point_of_another_trial_or_a_damaged_one_is_passed_over(settings, problem, tmp_path):
    data, embed = problem
    options = settings(resume_every=2)
    started = []

    def trial(key):
        head = linear()
        resume = ResumePoint(tmp_path, key, 2)
        train_trial(options, head, None, embed, data, 0, resume=resume, on_step=lambda step, _: started.append(step))
        return started[-7] if len(started) >= 7 else started[0]

    trial("a")
    (point,) = tmp_path.glob("step-*")
    assert point.name == "step-4"
    started.clear()
    trial("b")
    assert started[0] == 0
    started.clear()
    trial("b")
    assert started[0] == 4
    weights = next(tmp_path.glob("step-*/state.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-8])
    started.clear()
    trial("b")
    assert started[0] == 0


def test_a_validation_scores_the_pairs_whatever_their_lengths(settings, problem, monkeypatch):
    data, embed = problem
    monkeypatch.setattr("train.validation.CHUNK", 5)
    seen = []
    monkeypatch.setattr("train.validation.pair_accuracy", lambda scores, ignore: seen.append(scores) or 0.5)
    head = linear()
    validate(settings(), head, head, embed, data)
    sides = [
        [embed(head, np.array([text]), is_query=is_query)[0].detach() for text in data.validation[:, side]]
        for side, is_query in ((0, True), (1, False))
    ]
    expected = [[float((query @ document.T).amax(1).sum()) for document in sides[1]] for query in sides[0]]
    torch.testing.assert_close(seen[0], torch.tensor(expected))
