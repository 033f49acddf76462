import re
from pathlib import Path

import pytest

from experiment.allocation import baseline_seeds
from experiment.config.load import dump_config, load_config, read_resolved
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import RoundsRecord
from experiment.rounds import planned_seeds
from projheads.errors import ProjheadsError

YAML = """\
output: {output}
heads: {{init: torch, variants: [linear, upscaled, ffn(depth=2), ffn(depth=3)]}}
train: {{data: pydocs}}
eval: {{datasets: [pydocs]}}
question: {question}
"""


@pytest.fixture
def load(tmp_path):
    def load(question="{resolution: 1.0, seeds: [3, 20]}", *overrides):
        path = tmp_path / "try.yaml"
        path.write_text(YAML.format(output=tmp_path / "out", question=question))
        return load_config(path, overrides)

    return load


def test_two_ways_to_write_the_seeds_are_one(load, tmp_path):
    config = load("{resolution: 1.0, seeds: 3..20}")
    assert config == load()
    assert config.question.seeds == (3, 20)
    assert config.seeds == tuple(range(20))
    assert config.untrained_seeds == (0, 1, 2)
    (tmp_path / "experiment.yaml").write_text(dump_config(config))
    assert read_resolved(tmp_path) == config


def test_without_a_question_the_seeds_are_those_of_the_list(load):
    assert load("null\nseeds: null") == load("null")
    config = load("null")
    assert config.seeds == config.untrained_seeds == (0, 1, 2)
    assert set(planned_seeds(config, ExperimentFolder(Path("nowhere"))).values()) == {(0, 1, 2)}


@pytest.mark.parametrize(
    "question, said",
    [
        ("{resolution: 1.0, seeds: [2, 20]}", "try.yaml:5: question.seeds: the least number of seeds must be at least"),
        ("{resolution: 1.0, seeds: [8, 5]}", "try.yaml:5: question.seeds: the most seeds, 5, must not be fewer"),
        ("{resolution: 1.0, seeds: many}", "try.yaml:5: question.seeds: write the least and the most seeds"),
        ("{resolution: 0, seeds: 3..9}", "try.yaml:5: question.resolution: input should be greater than 0"),
        ("{seeds: 3..9}", "try.yaml:5: question.resolution: missing"),
        ("{resolution: 1, seeds: 3..9}\nseeds: [0, 1]", "try.yaml:6: seeds: a `question` adds the seeds itself"),
    ],
)
def test_mistakes_are_one_line_each_with_its_place(load, question, said):
    with pytest.raises(ProjheadsError) as caught:
        load(question)
    lines = [re.sub(r"^.*/try\.yaml", "try.yaml", line) for line in str(caught.value).splitlines()]
    assert len(lines) == 1
    assert lines[0].startswith(said)


def test_the_baseline_has_more_seeds_unless_all_start_as_one_map(load):
    folder = ExperimentFolder(load().output)
    first = {label: len(seeds) for label, seeds in planned_seeds(load(), folder).items()}
    assert first == {"linear": 6, "upscaled": 3, "ffn(depth=2)": 3, "ffn(depth=3)": 3}
    few = planned_seeds(load("{resolution: 1.0, seeds: [3, 4]}"), folder)
    assert len(few["linear"]) == 4
    overrides = ["heads.init=pca", "heads.variants=[linear, upscaled(residual=true)]"]
    same = planned_seeds(load("{resolution: 1.0, seeds: [3, 20]}", *overrides), folder)
    assert set(map(len, same.values())) == {3}


def test_what_is_trained_next_is_read_from_rounds_json(load):
    config = load()
    folder = ExperimentFolder(config.output)
    folder.path.mkdir()
    RoundsRecord(next={"linear": 10, "upscaled": 5, "ffn(depth=2)": 3}, done=False).write(folder.rounds_json)
    counts = {label: len(seeds) for label, seeds in planned_seeds(config, folder).items()}
    assert counts == {"linear": 10, "upscaled": 5, "ffn(depth=2)": 3, "ffn(depth=3)": 3}


def test_seeds_of_the_baseline_by_hand():
    assert [baseline_seeds(3, k) for k in (1, 2, 4, 7, 9)] == [3, 5, 6, 8, 9]
