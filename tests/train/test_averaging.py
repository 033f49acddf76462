"""The moving average of the weights, and the settings that older results do not depend on."""

import pytest
import torch
from torch import nn

from projheads import build_head
from train.averaging import WeightAverage
from train.resume import ResumePoint
from train.training import train_trial


def test_the_average_is_the_recursion_and_starts_as_a_plain_mean():
    module = nn.Linear(1, 1, bias=False)
    average, expected = WeightAverage(module, 0.7), None
    for step, value in enumerate((3.0, 5.0, 1.0, 8.0, 2.0, 2.0), start=1):
        with torch.no_grad():
            module.weight.fill_(value)
        average.update()
        decay = min(0.7, (step - 1) / step)
        expected = value if expected is None else decay * expected + (1 - decay) * value
        if step == 3:
            assert expected == pytest.approx(3.0)
        with average.applied():
            assert module.weight.item() == pytest.approx(expected)
        assert module.weight.item() == value
    average.apply()
    assert module.weight.item() == pytest.approx(expected)


def trained(settings, problem, **more):
    data, embed = problem
    head = build_head("ffn", 16, 8)
    options = settings(max_steps=6, **more.pop("options", {}))
    log = train_trial(options, head, None, embed, data, seed=0, **more)
    return head.state_dict(), log


def test_the_average_of_the_steps_is_what_a_trial_ends_with(settings, problem):
    plain, first = trained(settings, problem)
    averaged, second = trained(settings, problem, options={"average": 0.99})
    assert first.losses == second.losses
    states = []
    data, embed = problem
    head = build_head("ffn", 16, 8)
    train_trial(
        settings(max_steps=6), head, None, embed, data, seed=0,
        on_step=lambda step, log: states.append({n: t.clone() for n, t in head.state_dict().items()}) if step else None,
    )  # fmt: skip
    for name in plain:
        mean = torch.stack([state[name] for state in states]).double().mean(0)
        torch.testing.assert_close(averaged[name].double(), mean, rtol=1e-4, atol=1e-6)
        assert not torch.equal(averaged[name], plain[name])


def test_a_stopped_trial_keeps_its_average(settings, problem, tmp_path):
    point = ResumePoint(tmp_path / "resume", "key", 2)
    whole, _ = trained(settings, problem, options={"average": 0.9})

    def stop(step, log):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(settings, problem, options={"average": 0.9}, resume=point, on_step=stop)
    resumed, _ = trained(settings, problem, options={"average": 0.9}, resume=point)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_settings_that_are_off_are_not_part_of_a_key(settings):
    off = settings().key_values(exclude=("log_every",))
    assert not {"average", "corrupt", "log_every"} & off.keys()
    left_out = settings().model_dump(mode="json").keys() - off.keys()
    assert {"average", "corrupt", "log_every"} <= left_out
    on = settings(average=0.5, corrupt=0.1).key_values()
    assert (on["average"], on["corrupt"]) == (0.5, 0.1)
