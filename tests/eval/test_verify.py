"""``--verify``: every kind of damage is found, and an intact experiment has none."""

import json

import pytest

from eval.__main__ import main
from experiment.console.command import run_command


@pytest.fixture
def verify(miniature, capsys):
    assert run_command(main, [str(miniature.yaml)]) == 0
    capsys.readouterr()

    def verify():
        code = run_command(main, [str(miniature.folder.path), "--verify"])
        return code, " ".join("".join(capsys.readouterr()).split())

    return verify


def test_an_intact_experiment_is_intact_and_stays_as_it_is(miniature, verify):
    files = {file: file.stat().st_mtime_ns for file in miniature.folder.path.rglob("*") if file.is_file()}
    # 4 trials and 4 reference rows, the token states of both sides, and 8 evaluations.
    assert verify() == (0, f"{miniature.folder.path}: all 18 models, stores and evaluations are intact")
    assert {file: file.stat().st_mtime_ns for file in miniature.folder.path.rglob("*") if file.is_file()} == files


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def drop_best(file):
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))


def raise_score(file):
    record = json.loads(file.read_text())
    record["measures"]["RR@10"]["q1"] += 0.01
    file.write_text(json.dumps(record))


@pytest.mark.parametrize(
    "harm, where, told",
    [
        (flip, "trials/linear/seed-0/model/1_Head/model.safetensors", "seed-0/model: damaged"),
        (flip, "references/untrained/seed-1/model/1_Head/model.safetensors", "seed-1/model: damaged"),
        (flip, "../.cache/states/*/documents-*/vectors.bin", "vectors.bin: damaged"),
        (flip, "../.cache/states/*/queries-*/lengths.bin", "lengths.bin: damaged"),
        (drop_best, "references/bm25/seed-0/eval/odd.run", "odd.run: damaged"),
        (raise_score, "trials/linear/seed-1/eval/odd.json", "odd.run: damaged (RR@10 of query"),
    ],
)
def test_damage_is_found_and_named(miniature, verify, harm, where, told):
    (file,) = miniature.folder.path.parent.glob(f"mini/{where}" if not where.startswith("..") else where[3:])
    harm(file)
    code, text = verify()
    assert code == 2
    assert told in text
    assert f"{miniature.folder.path}: 1 of 18 models, stores and evaluations are damaged" in text
