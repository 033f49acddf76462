import re
from pathlib import Path

import pytest

from experiment.collections import Document, write_beir_folder
from experiment.config import SweepConfig, grid_points, grow_grid
from experiment.config.load import dump_config, load_config, read_resolved
from experiment.factors import cells, expand, factors_of, head_key, level_of
from experiment.losses import KL, Contrastive
from projheads.errors import ProjheadsError
from projheads.spec import HeadSpec

GOOD = """\
heads:
  variants: [linear, ffn(depth=2)]
train:
  data: pydocs
eval:
  datasets: [pydocs]
"""


@pytest.fixture
def load(tmp_path):
    def load(text=GOOD, *overrides):
        path = tmp_path / "try.yaml"
        path.write_text(text)
        return load_config(path, overrides)

    return load


def problems(load, text=GOOD, *overrides):
    with pytest.raises(ProjheadsError) as caught:
        load(text, *overrides)
    return [re.sub(r"^.*/try\.yaml", "try.yaml", line) for line in str(caught.value).splitlines()]


def test_defaults_and_names(load):
    config = load()
    assert (config.name, config.output) == ("try", Path("outputs/try"))
    assert config.heads.variants == (HeadSpec("linear"), HeadSpec("ffn", {"depth": 2}))
    assert (config.train.data.split, config.eval.datasets[0].split) == ("train", "test")
    assert config.eval.datasets[0].name == "pydocs"
    assert config.model.settings().document_length == 180


def test_resolved_configuration_reads_back_equal(load, tmp_path):
    config = load(GOOD, 'description="a: [b] # c"', "train.optimizer.head_lr=3e-4", "train.max_grad_norm=null")
    (tmp_path / "experiment.yaml").write_text(dump_config(config))
    assert read_resolved(tmp_path) == config
    with pytest.raises(ProjheadsError, match=r"no experiment\.yaml"):
        read_resolved(tmp_path / "elsewhere")


def test_overrides_are_yaml_values(load):
    config = load(GOOD, "seeds=[5]", "train.optimizer.head_lr=1e-4", "name=other", "train.trainable=all")
    assert config.seeds == (5,)
    assert config.train.optimizer.head_lr == 1e-4
    assert config.output == Path("outputs/other")


def test_every_mistake_at_once_each_with_its_line(load):
    text = """\
seeds: [0, 0]
heads:
  variants: [linear, fnn(depth=2)]
train:
  data: pydocs
  batch_sise: 8
  precision: fp8
eval:
  datasets: [pydocs]
  measures: [nDGC@10]
"""
    lines = problems(load, text)
    told = dict(line.split(": ", 1) for line in lines)
    assert sorted(told) == ["try.yaml:1", "try.yaml:10", "try.yaml:3", "try.yaml:6", "try.yaml:7"]
    assert 'did you mean "ffn"' in told["try.yaml:3"]
    assert 'did you mean "batch_size"' in told["try.yaml:6"]
    assert "'fp16', not 'fp8'" in told["try.yaml:7"]
    assert 'did you mean "nDCG"' in told["try.yaml:10"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("heads.variants=[linear, ffn(depth=0)]", "depth"),
        ("heads.variants=[linear, ffn(dept=2)]", 'did you mean "depth"'),
        ("heads.variants=[linear, linear]", "is listed twice"),
        ("heads.variants=[ffn]", "baseline linear is not among the variants"),
        ("heads.init=xaver", 'did you mean "xavier"'),
        ("train.data=pydoc", 'did you mean "pydocs"'),
        ("eval.datasets=[beir:scifakt]", 'did you mean "scifact"'),
        ("eval.datasets=[pydocs, pydocs]", 'two data sets are called "pydocs"'),
        ("train.batch_size=1", "greater than or equal to 2"),
        ("train.batch_size=many", "valid integer"),
        ("train.batch_size=true", "valid integer"),
        ("train.optimizer.head_lr=fast", "valid number"),
        ("train.optimizer.head_lr=.inf", "finite number"),
        ("train.optimizer.head_lr=-1", "greater than 0"),
        ("model.query_expansion=no", "is a string in YAML 1.2; write true or false"),
        ("model.backbone=3", "valid string"),
        ("device=gpu", "pattern"),
        ("eval.measures=[nDCG@1000]", "depth"),
        ("name=a/b", "names a file"),
        ("eval.datasets=[]", "at least 1"),
        ("eval.index=foo", "eval.index"),
        ("eval.index='IVF99999999,Flat'", "99999999 is too large"),
        ("eval.storage=[dim99999999]", "a token vector has 128 numbers"),
        ("heads.out_features=10000000000", "less than or equal to 1000000000"),
        ("heads.out_features=1000000000", "GB of memory; use smaller widths"),
        ("heads.variants=[linear, 'ffn(hidden_features=1000000000)']", "GB of memory; use smaller widths"),
        ("heads.variants=[linear, 'ffn(factor=1e300)']", "ffn(factor=1e+300)"),
        ("train.optimizer.head_lr=1e9", "is out of range for a learning rate"),
        ("train.optimizer.backbone_lr=1e-300", "is out of range for a learning rate"),
        ("threads=1000000", "less than or equal to 4096"),
        ("device=cuda:99999999999999999999", "pattern"),
        ("question={resolution: 1, seeds: [3, 1000000000]}", "must be at most 10000"),
        ("train.validations=1000000000", "less than or equal to 10000"),
        ("eval.depth=5", "measure nDCG@10 needs 10 documents"),  # a default that a given value rules out
        ("eval.max_candidates=50", "100 documents cannot be kept"),
        ("train=3", "train"),
        ("seeds=0", "seeds"),
        ("learning_rate=1e-4", "use train.optimizer.head_lr"),
        ("train.per_device_train_batch_size=8", "use train.batch_size"),
        ("train.num_train_epochs=2", "use train.epochs"),
        ("seed=3", "use seeds"),
    ],
)
def test_one_mistake_one_line(load, override, words):
    lines = problems(load, GOOD, override)
    assert len(lines) == 1
    assert words in lines[0]
    assert lines[0].startswith(f"command line, {override}: ") or "try.yaml" in lines[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "mapping of keys"),
        ("- a", "mapping of keys"),
        ("heads:\n  variants: [linear]\n", "train: missing"),
        (GOOD + "extra: 1\n", "try.yaml:7: extra: unknown key"),
    ],
)
def test_a_file_that_is_no_experiment(load, text, words):
    assert any(words in line for line in problems(load, text))


@pytest.mark.parametrize("override", ["train.batch_size", "=3", "train..data=1"])
def test_an_override_without_a_value(load, override):
    assert "not of the form key=value" in problems(load, GOOD, override)[0]


def test_a_folder_as_data_set(load, tmp_path):
    folder = tmp_path / "my set"
    write_beir_folder(folder, [Document("d", "", "text")], {"q": "text"}, {"test": {"q": {"d": 1}}})
    config = load(GOOD, f"eval.datasets=['{folder}']")
    assert config.eval.datasets[0].name == "my-set"
    config = load(GOOD, f"eval.datasets=[{{source: '{folder}', split: dev, name: mine}}]")
    assert (config.eval.datasets[0].split, config.eval.datasets[0].name) == ("dev", "mine")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.loss=kll", 'train.loss: unknown loss "kll"; known: contrastive, kl, margin-mse; did you mean "kl"?'),
        (
            "train.loss.temprature=2",
            'train.loss.temprature: unknown key; known here: name, temperature; did you mean "t',
        ),
        ("train.loss={name: margin-mse, temperature: 2}", "train.loss.temperature: unknown key; known here: name"),
        ("train.loss={name: kl, teacher_normalization: minmax}", "not 'minmax'; did you mean \"min-max\"?"),
        ("train.loss.temperature=0", "train.loss.temperature: input should be greater than 0, not 0"),
        ("train.loss=3", "train.loss: "),
    ],
)
def test_a_loss_has_its_own_options_only(load, override, line):
    (told,) = problems(load, GOOD, override)
    assert told.startswith(f"command line, {override}: ")
    assert line in told


def test_a_loss_is_its_name_or_its_options(load):
    tuples = "train.data={tuples: a.jsonl}"
    assert load(GOOD, "train.loss.temperature=0.1").train.loss == Contrastive(temperature=0.1)
    assert load(GOOD, tuples, "train.loss=kl").train.loss == KL(name="kl")
    assert load(GOOD, tuples, "train.loss={name: kl, temperature: 2}").train.loss.temperature == 2


def test_a_sweep_is_read_as_the_training_section_reads_it(load):
    config = load(GOOD + "sweep:\n  optimizer.head_weight_decay: [0, 1e-2]\n  max_grad_norm: [null, 1]\n")
    assert config.sweep.grid == {"optimizer.head_weight_decay": (0.0, 0.01), "max_grad_norm": (None, 1.0)}
    points = grid_points(config.sweep.grid, config.train)
    assert [(point.settings.optimizer.head_weight_decay, point.settings.max_grad_norm) for point in points] == [
        (0.0, None), (0.0, 1.0), (0.01, None), (0.01, 1.0)
    ]  # fmt: skip
    assert len({point.slug for point in points}) == 4
    assert points[2].slug == "optimizer.head_weight_decay=0.01-max_grad_norm=null"
    assert load(GOOD, "sweep.optimizer.head_lr=[1e-5]").sweep.grid == {"optimizer.head_lr": (1e-5,)}


def test_every_head_has_its_own_learning_rate_unless_the_sweep_is_off(load, tmp_path):
    default = SweepConfig()
    assert load(GOOD).sweep == default == load(GOOD, "sweep.seeds=3").sweep
    assert default.grid == {"optimizer.head_lr": (3e-4, 1e-3, 3e-3)}
    around = load(GOOD, "train.optimizer.head_lr=5e-4")
    assert around.sweep.grid == {"optimizer.head_lr": (1.5e-4, 5e-4, 1.5e-3)}
    assert around.sweep.shared_point(around.train).values == {"optimizer.head_lr": 5e-4}
    for off in ("sweep={}", "sweep=null", "sweep.grid={}"):
        assert load(GOOD, off).sweep == SweepConfig(grid={})
    mixed = load(GOOD + "sweep:\n  seeds: 2\n  schedule: [linear]\n  grid: {optimizer: {head_lr: [1]}}\n")
    assert mixed.sweep == SweepConfig(grid={"optimizer.head_lr": (1.0,), "schedule": ("linear",)}, seeds=2)
    for config in (load(GOOD), load(GOOD, "sweep={}"), mixed):
        (tmp_path / "experiment.yaml").write_text(dump_config(config))
        assert read_resolved(tmp_path) == config


def test_mistakes_of_the_sections_keys_and_of_its_grid_have_their_lines(load):
    lines = problems(load, GOOD + "sweep:\n  grid:\n    optimizer.head_lr: [1e-3]\n    scedule: [linear]\n  seeds: 2\n")
    assert len(lines) == 1
    assert lines[0].startswith("try.yaml:10: sweep.grid.scedule: ")
    (line,) = problems(load, GOOD + "sweep:\n  seeds: 0\n")
    assert line.startswith("try.yaml:8: sweep.seeds: ")


@pytest.mark.parametrize(
    "grid, chosen, grown",
    [
        ({"optimizer.head_lr": (3e-4, 1e-3, 3e-3)}, 3e-3, (3e-4, 1e-3, 3e-3, 9e-3)),
        ({"optimizer.head_lr": (3e-4, 1e-3, 3e-3)}, 3e-4, (9e-5, 3e-4, 1e-3, 3e-3)),
        ({"optimizer.head_lr": (3e-4, 1e-3, 3e-3)}, 1e-3, (3e-4, 1e-3, 3e-3)),
        ({"optimizer.head_lr": (1e-3,)}, 1e-3, (1e-3,)),
        ({"batch_size": (4, 8)}, 8, (4, 8, 16)),
        ({"batch_size": (2, 4)}, 2, (2, 4)),  # a batch of 1 is not allowed
        ({"optimizer.head_weight_decay": (0.0, 0.01)}, 0.0, (0.0, 0.01)),
        ({"optimizer.head_weight_decay": (0.0, 0.01)}, 0.01, (0.0, 0.01)),
        ({"warmup_ratio": (0.1, 0.5)}, 0.5, (0.1, 0.5)),  # 2.5 is not a fraction
        ({"schedule": ("linear", "cosine")}, "linear", ("linear", "cosine")),
    ],
)
def test_a_grid_grows_beyond_the_edge_that_was_chosen(load, grid, chosen, grown):
    (key,) = grid
    assert grow_grid(grid, {key: chosen}, load(GOOD).train) == {key: grown}


def test_the_shared_point_has_the_experiments_own_settings(load):
    config = load(GOOD)
    assert config.sweep.shared_point(config.train).values == {"optimizer.head_lr": 1e-3}
    for elsewhere in (
        load(GOOD, "train.optimizer.head_lr=2e-3", "sweep.optimizer.head_lr=[1e-3]"),
        load(GOOD, "sweep={}"),
    ):
        assert elsewhere.sweep.shared_point(elsewhere.train) is None


def test_every_mistake_of_a_sweep_has_its_line(load):
    lines = problems(
        load,
        GOOD
        + """\
sweep:
  optimizer.head_lr:
    - 1e-3
    - fast
  optimizer.head_weight_decy: [0]
  batch_size: [1]
  schedule: [linear, linear]
  data: [pydocs]
  loss.temperature: []
""",
    )
    told = dict(line.split(": ", 1) for line in lines)
    assert sorted(told, key=len) == [
        "try.yaml:10",
        "try.yaml:11",
        "try.yaml:12",
        "try.yaml:13",
        "try.yaml:14",
        "try.yaml:15",
    ]
    assert "valid number" in told["try.yaml:10"]
    assert 'did you mean "optimizer.head_weight_decay"' in told["try.yaml:11"]
    assert "greater than or equal to 2" in told["try.yaml:12"]
    assert "is listed twice" in told["try.yaml:13"]
    assert "cannot be swept" in told["try.yaml:14"]
    assert "lists no values" in told["try.yaml:15"]


@pytest.mark.parametrize("off", ["validation_pairs", "validations"])
def test_a_sweep_needs_held_out_pairs(load, off):
    (line,) = problems(load, GOOD, "sweep.loss.temperature=[1, 2]", f"train.{off}=0")
    assert f"train.{off} is 0" in line


def test_widths_of_a_token_embedding(load, tmp_path):
    config = load(GOOD, "heads.out_features=[128, 64, 32]")
    assert (config.heads.out_features, config.heads.widths) == (128, (128, 64, 32))
    (tmp_path / "experiment.yaml").write_text(dump_config(config))
    assert read_resolved(tmp_path) == config
    assert load(GOOD).heads.widths == (128,)
    for wrong in ("[]", "[64, 64]", "[64, 128]", "[64, true]", "[64, 0]"):
        (line,) = problems(load, GOOD, f"heads.out_features={wrong}")
        assert "falling widths such as [128, 64, 32]" in line
    (line,) = problems(load, GOOD, "heads.matryoshka=[256]")
    assert "widths that fall from heads.out_features=128" in line


def test_a_renamed_key_is_refused_with_its_new_name(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(
        "heads: {variants: [linear]}\ntrain: {data: pydocs, checkpoint_every: 5}\neval: {datasets: [pydocs]}\n"
    )
    with pytest.raises(ProjheadsError, match=r"x\.yaml:2: train: checkpoint_every is now called resume_every"):
        load_config(file)


GRID = """\
heads:
  variants:
    - linear
    - ffn(depth={2,3}, activation={identity, gelu})
train: {data: pydocs}
eval: {datasets: [pydocs]}
"""


def test_a_grid_of_variants_is_its_heads_and_round_trips(load, tmp_path):
    config = load(GRID)
    assert [str(spec) for spec in config.heads.variants] == [
        "linear",
        'ffn(depth=2, activation="identity")',
        'ffn(depth=2, activation="gelu")',
        'ffn(depth=3, activation="identity")',
        'ffn(depth=3, activation="gelu")',
    ]
    (grid,) = config.heads.grids
    assert factors_of(grid) == {"depth": ["2", "3"], "activation": ["identity", "gelu"]}
    assert cells(grid)[head_key('ffn(depth=3, activation="gelu")')] == {"depth": "3", "activation": "gelu"}
    assert level_of(HeadSpec.parse("residual(inner=ffn(depth=3))"), "depth") == 3
    (tmp_path / "experiment.yaml").write_text(dump_config(config))
    assert read_resolved(tmp_path) == config
    assert load(GOOD).heads.grids == ()
    (line,) = problems(load, dump_config(config), "heads.variants=[linear]")
    assert "which heads.variants lacks; remove the grid" in line


def test_grids_of_heads_within_heads_and_of_widths(load):
    text = GRID.replace("ffn(depth={2,3}, activation={identity, gelu})", "residual(inner=glu(activation={silu,gelu}))")
    assert len(load(text).heads.variants) == 3
    assert expand("ffn(hidden={(64, 32), 128})") == ["ffn(hidden=(64, 32))", "ffn(hidden=128)"]


@pytest.mark.parametrize(
    "grid, words",
    [
        ("ffn(depth={2,3)", "character 11: this brace is not closed"),
        ("ffn(depth=2,3})", "character 14: this brace closes nothing"),
        ("ffn(depth={2,{3,4}})", "character 11: this brace is not closed"),
        ("{ffn,glu}", "character 1: braces hold the values of an option"),
        ("ffn(depth={2})", "depth needs at least two values"),
        ("ffn(depth={2,,3})", "depth needs at least two values"),
        ("ffn(depth={2,2})", "depth lists a value twice"),
        ("residual(scale={0.5,1.0}, inner=ffn(scale={1,2}))", "scale is varied twice"),
        ("ffn(depht={2,3})", 'did you mean "depth"'),
    ],
)
def test_a_mistake_in_a_grid_has_its_line(load, grid, words):
    lines = problems(load, GRID.replace("ffn(depth={2,3}, activation={identity, gelu})", f"'{grid}'"))
    assert len(lines) == 1
    assert lines[0].startswith("try.yaml:4: heads.variants.1: ")
    assert words in lines[0]


def test_a_number_of_seeds_and_a_single_data_set_are_short_for_lists(load):
    config = load(GOOD, "seeds=4", "eval.datasets=pydocs")
    assert config.seeds == (0, 1, 2, 3)
    assert [dataset.name for dataset in config.eval.datasets] == ["pydocs"]


@pytest.mark.parametrize("override", ["trian.batch_size=8", "train.optimiser.head_lr=1", "modle.backbone.x=a"])
def test_a_mistake_of_the_command_line_is_found_there(load, override):
    (line,) = problems(load, GOOD, override)
    assert line.startswith(f"command line, {override}: ")
    assert "did you mean" in line


def test_a_grid_with_more_points_than_can_be_trained_is_refused(load):
    many = list(range(1, 150))
    sweep = f"sweep={{epochs: {many}, max_steps: {many}}}"
    (line,) = problems(load, GOOD, sweep)
    assert line.endswith("has 22201 combinations; use at most 10000")
    (line,) = problems(load, GOOD, f"axes={{epochs: {many}, max_steps: {many}}}")
    assert line.endswith("has 22201 combinations; use at most 10000")
    levels = ",".join(map(str, many))
    lines = problems(load, GOOD, f"heads.variants=[linear, 'ffn(hidden_features={{{levels}}}, depth={{{levels}}})']")
    assert "has 22201 combinations; use at most 10000" in lines[0]


def test_an_override_of_very_many_parts_is_refused(load):
    (line,) = problems(load, GOOD, "sweep." + "a." * 5000 + "b=1")
    assert "not of the form key=value" in line
