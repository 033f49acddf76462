"""What the diagnostics of gradient flow make of the probes that training has recorded."""

import json
from types import SimpleNamespace

import pytest

from eval.explain.given import probes_hash, read_probes
from experiment.disk.files import write_text
from experiment.disk.layout import TrialFolder
from experiment.disk.records import ProbePoint, TrainLine
from tests.eval.explain.made_up import given, values

START = ProbePoint(
    when="start", winners=0.1, winners_in_batch=0.2, gini=0.3, changed=0.4, gradient_rank=5.0,
    gradient_energy={"1": 0.6, "8": 0.7}, map_rank=8.0, alignment={"R-W": 0.9},
)  # fmt: skip
END = START.replace(when="end", winners=0.15, changed=None, gradient_rank=None, gradient_energy={}, alignment={})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "winner-share",
            {
                "start: for its own query": 0.1,
                "start: for any query of the batch": 0.2,
                "end: for its own query": 0.15,
                "end: for any query of the batch": 0.2,
            },
        ),
        ("winner-gini", {"start": 0.3, "end": 0.3}),
        ("winner-changes", {"start": 0.4}),
        ("gradient-rank", {"start": 5.0}),
        ("gradient-energy", {"start: top 1": 0.6, "start: top 8": 0.7}),
        ("map-rank", {"start": 8.0, "end": 8.0}),
        ("crh-alignment", {"start: R-W": 0.9}),
    ],
)
def test_every_number_of_a_probe_is_shown(name, expected):
    made = given([[[1.0, 0.0]]])
    vars(made)["probes"] = {"start": START, "end": END}
    assert values(name, made) == expected
    vars(made)["probes"] = {}
    assert values(name, made) == {}


def test_of_several_stages_the_start_is_that_of_the_first_and_the_end_that_of_the_last(tmp_path):
    subject = SimpleNamespace(folder=TrialFolder(tmp_path))
    assert read_probes(subject) == {}
    lines = [TrainLine(step=step, probe=START.replace(when=when, map_rank=float(step))) for step, when in enumerate(
        ["start", "middle", "end"] * 2)]  # fmt: skip
    write_text(subject.folder.train_jsonl, "".join(f"{json.dumps(line.to_dict())}\n" for line in lines))
    assert read_probes(subject) == {}  # a trial that has not finished
    write_text(subject.folder.trial_json, "{}")
    assert {when: point.map_rank for when, point in read_probes(subject).items()} == {
        "start": 0.0,
        "middle": 1.0,
        "end": 5.0,
    }
    before = probes_hash(subject)
    write_text(subject.folder.train_jsonl, "")
    assert probes_hash(subject) != before
