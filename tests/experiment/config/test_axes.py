import re

import pytest

from experiment.config.load import dump_config, load_config, read_resolved
from experiment.disk.records import row_label
from projheads.errors import ProjheadsError

YAML = """\
heads: {variants: [linear, upscaled(residual=true)]}
train: {data: pydocs}
eval: {datasets: [pydocs]}
sweep: {}
axes:
"""


@pytest.fixture
def load(tmp_path):
    def load(*lines, overrides=()):
        path = tmp_path / "try.yaml"
        path.write_text(YAML + "".join(f"  {line}\n" for line in lines))
        return load_config(path, overrides)

    return load


def test_points_are_all_combinations_with_the_values_in_place(load, tmp_path):
    config = load("max_pairs: [400, 1600]", "heads.init: [torch, pca]", "optimizer.head_weight_decay: [0]")
    points = config.points()
    assert [(one.train.max_pairs, one.heads.init) for _, one in points] == [
        (400, "torch"), (400, "pca"), (1600, "torch"), (1600, "pca")
    ]  # fmt: skip
    assert points[1][0].values == {"max_pairs": 400, "heads.init": "pca", "optimizer.head_weight_decay": 0.0}
    assert all(one.axes == {} for _, one in points)
    expected = load("max_pairs: [400]", overrides=["axes={}", "train.max_pairs=400", "heads.init=pca"])
    assert points[1][1] == expected
    (tmp_path / "experiment.yaml").write_text(dump_config(config))
    assert read_resolved(tmp_path) == config


def test_without_axes_there_is_one_point_without_values(load):
    config = load(overrides=["axes={}"])
    ((point, one),) = config.points()
    assert (point.values, point.suffix, one) == ({}, "", config)


def test_folders_and_rows_name_the_point(load):
    (point, _), *_ = load("max_pairs: [400]", "optimizer.head_lr: [1e-3]").points()
    assert point.suffix == "@max_pairs=400-optimizer.head_lr=0.001"
    assert row_label("linear", point.values) == "linear @ max_pairs=400, head_lr=0.001"
    assert row_label("linear", {"heads.init": "pca", "max_grad_norm": None}) == "linear @ init=pca, max_grad_norm=null"
    assert row_label("linear", {}) == "linear"


@pytest.mark.parametrize(
    "lines, said",
    [
        (["max_pair: [1]"], 'try.yaml:6: axes.max_pair: unknown axis "max_pair"'),
        (["log_every: [1]"], 'try.yaml:6: axes.log_every: unknown axis "log_every"'),
        (["max_pairs: [400, 0]"], "try.yaml:6: axes.max_pairs.1: input should be greater than or equal to 1, not 0"),
        (["max_pairs: []"], "try.yaml:6: axes.max_pairs: lists no values; give at least one"),
        (["heads.init: [torch, pcb]"], "try.yaml:6: axes.heads.init.1: "),
        (["heads.init: [pca, pca]"], "try.yaml:6: axes.heads.init.1: the value 'pca' is listed twice"),
        (["heads.out_features: [[64, 32]]"], "try.yaml:6: axes.heads.out_features.0: must be one value"),
        (
            ["trainable: [all, head]", "gradient_checkpointing: [false, true]"],
            "try.yaml:7: axes.gradient_checkpointing.1: gradient_checkpointing needs a trained backbone",
        ),
    ],
)
def test_mistakes_are_one_line_each_with_its_place(load, lines, said):
    with pytest.raises(ProjheadsError) as caught:
        load(*lines)
    found = [re.sub(r"^.*/try\.yaml", "try.yaml", line) for line in str(caught.value).splitlines()]
    assert len(found) == 1
    assert found[0].startswith(said)


def test_a_combination_that_is_impossible_is_named(load):
    lines = ["trainable: [all, head]", "gradient_checkpointing: [false, true]"]
    with pytest.raises(ProjheadsError, match=r"axes: at trainable=head, gradient_checkpointing=True: "):
        load(*lines, overrides=["train.trainable=all"])


def test_a_setting_is_either_compared_or_swept(load):
    with pytest.raises(ProjheadsError, match=r"axes\.optimizer\.head_lr: is swept too"):
        load("optimizer.head_lr: [1e-3]", overrides=["sweep={optimizer.head_lr: [1e-3, 1e-2]}"])


def test_a_race_is_at_one_setting(load):
    assert load("max_pairs: [400, 1600]", overrides=["question={resolution: 1, seeds: 3..5}"]).question.race is False
    with pytest.raises(ProjheadsError, match="a race is between heads at one setting; remove `axes`"):
        load("max_pairs: [400, 1600]", overrides=["question={resolution: 1, seeds: 3..5, race: true}"])
