"""A complete evaluation with each installed host, compared with what the host encodes."""

import json

import pytest

from eval.__main__ import main
from eval.runs import read_run
from experiment.collections import open_collection
from experiment.config.load import dump_config, load_config
from experiment.console.command import run_command
from experiment.disk.files import write_text
from experiment.disk.layout import ExperimentFolder
from experiment.disk.models import weights_hash
from experiment.disk.records import TrialRecord
from projheads.build import build_head
from projheads.hosts import available_hosts, load_host

TEXTS = [
    "the cat sat on the mat",
    "",
    "Paris, the capital of France!",
    "where is the red dog; what is blue?",
    ". . .",
    "rain " * 100_000,
    "sun",
    "Ünïcode 漢字 \u00a0 tab\there",
]


@pytest.mark.parametrize("host", available_hosts())
def test_a_saved_trial_is_evaluated_with_the_embeddings_of_its_host(host, backbone, tmp_path, capsys):
    (tmp_path / "data" / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{place}", "text": text} for place, text in enumerate(TEXTS)]
    (tmp_path / "data" / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in documents))
    (tmp_path / "data" / "queries.jsonl").write_text(
        '{"_id": "q", "text": "what is the capital of france"}\n{"_id": "r", "text": "cat"}\n'
    )
    for split in ("train", "test"):
        (tmp_path / "data" / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\nq\td2\t1\nr\td0\t1\n")
    (tmp_path / "e.yaml").write_text(
        f"output: {tmp_path}/out\ncache: {tmp_path}/cache\nseeds: [0]\n"
        f"model: {{backbone: {backbone}, host: {host}}}\nheads: {{variants: [linear], out_features: 16}}\n"
        f"train: {{data: {tmp_path}/data}}\neval: {{datasets: [{tmp_path}/data], references: [backbone]}}\n"
    )
    config = load_config(tmp_path / "e.yaml")
    folder = ExperimentFolder(config.output)
    write_text(folder.experiment_yaml, dump_config(config))
    model = load_host(host).create(str(backbone), build_head("linear", 32, 16), config.model.settings())
    files = folder.trial("linear", 0)
    files.path.mkdir(parents=True)
    model.save(files.model)
    TrialRecord(
        status="finished", label="linear", slug="linear", is_baseline=True, seed=0, in_features=32, out_features=16,
        weights_hash=weights_hash(files.model), host=host, parameters=512, multiply_adds=512, folds=True,
    ).write(files.trial_json)  # fmt: skip
    assert run_command(main, [str(tmp_path / "e.yaml")]) == 0, capsys.readouterr().err

    collection = open_collection(str(tmp_path / "data"), split="test")
    (query,) = model.encode([collection.queries["q"]], is_query=True)
    rows = model.encode([document.passage for document in collection.corpus.values()], is_query=False)
    expected = {f"d{place}": (query @ text.T).max(1).sum() for place, text in enumerate(rows)}
    found = dict(read_run(files.eval_run("data"))["q"])
    assert found.keys() == expected.keys()
    for name, score in found.items():
        # Kept token states and embeddings are float16, whose steps below 1 are 2^-11 at most.
        assert score == pytest.approx(expected[name], abs=len(query) * 2**-9)
    assert (files.path / "eval" / "data.json").exists()
    assert folder.reference("backbone").eval_run("data").exists()
