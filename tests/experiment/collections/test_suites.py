"""Suites by name, NanoBEIR, and the splits by which models are compared."""

import json

import datasets
import pytest

from experiment.collections import check_source, nano_beir, official_split, open_collection, suite_notes
from experiment.collections.beir_hub import CQADUPSTACK
from experiment.config.load import dump_config, load_config, read_resolved
from projheads.errors import ProjheadsError

NANO = [
    *("climatefever", "dbpedia", "fever", "fiqa2018", "hotpotqa", "msmarco", "nfcorpus"),
    *("nq", "quoraretrieval", "scidocs", "arguana", "scifact", "touche2020"),
]
BEIR = [
    *("arguana", "climate-fever", "cqadupstack", "dbpedia-entity", "fever", "fiqa", "hotpotqa", "msmarco"),
    *("nfcorpus", "nq", "quora", "scidocs", "scifact", "trec-covid", "webis-touche2020"),
]


@pytest.fixture
def resolved(tmp_path):
    """Read a list of data sets, and read it back as it is written out."""

    def resolved(listed):
        path = tmp_path / "try.yaml"
        path.write_text(f"heads: {{variants: [linear]}}\ntrain: {{data: pydocs}}\neval: {{datasets: [{listed}]}}\n")
        config = load_config(path)
        (tmp_path / "experiment.yaml").write_text(dump_config(config))
        assert read_resolved(tmp_path) == config
        return config.eval.datasets

    return resolved


def test_nanobeir_is_its_thirteen_data_sets(resolved):
    refs = resolved("{suite: nanobeir}")
    assert sorted(ref.source for ref in refs) == sorted(f"nano:{name}" for name in NANO)
    assert {ref.split for ref in refs} == {"train"}
    assert {ref.group for ref in refs} == {None}
    assert {"NanoSciFact", "NanoTouche2020", "NanoClimateFEVER"} <= {ref.name for ref in refs}


def test_the_names_of_nanobeir_are_those_of_the_hosts():
    evaluator = pytest.importorskip("pylate.evaluation.nano_beir_evaluator")
    theirs = evaluator.MAPPING_DATASET_NAME_TO_ID
    assert {name: f"zeta-alpha-ai/{repo}" for name, repo in nano_beir.NANO_BEIR.items()} == theirs


def test_beir_is_what_is_public_of_it_with_cqadupstack_in_twelve_parts(resolved):
    refs = resolved("suite:beir")
    assert sorted({ref.group or ref.name for ref in refs}) == BEIR
    assert [ref.name for ref in refs if ref.group] == [f"cqadupstack-{part}" for part in CQADUPSTACK]
    assert {ref.name: ref.split for ref in refs if ref.split != "test"} == {"msmarco": "dev"}
    assert len(refs) == 14 + 12


def test_a_suite_stands_among_other_data_sets(resolved):
    names = [ref.name for ref in resolved("pydocs, beir:cqadupstack, nano:SciFact")]
    assert names == ["pydocs", *(f"cqadupstack-{part}" for part in CQADUPSTACK), "NanoSciFact"]


def test_what_a_suite_leaves_out_is_told(resolved):
    (note,) = suite_notes(ref.source for ref in resolved("{suite: beir}, pydocs"))
    assert all(name in note for name in ("BioASQ", "Signal-1M", "TREC-NEWS", "Robust04", "MS MARCO dev"))
    assert suite_notes(["beir:scifact"]) == []
    assert len(suite_notes(ref.source for ref in resolved("{suite: cqadupstack}, {suite: nanobeir}"))) == 2


@pytest.mark.parametrize(
    "listed, line",
    [
        (
            "{suite: bier}",
            'unknown suite "bier"; known: beir, bright, cqadupstack, limit, longembed, lotte, mteb-eng, nanobeir; '
            'did you mean "beir"?',
        ),
        ("{suite: beir, split: dev}", "with no other key"),
        ("{source: beir:cqadupstack, split: dev}", "with no other key"),
        ("{suite: beir}, beir:nq", 'two data sets are called "nq"'),
        ("nano:scifat", 'did you mean "scifact"?'),
        ("{suite: cqadupstack}, {source: pydocs, name: cqadupstack}", "a data set and a group are called"),
    ],
)
def test_mistakes_in_suites(resolved, listed, line):
    with pytest.raises(ProjheadsError) as error:
        resolved(listed)
    assert line in str(error.value)
    assert "try.yaml:3: eval.datasets" in str(error.value)


def test_nanobeir_is_not_trained_on(tmp_path):
    path = tmp_path / "try.yaml"
    path.write_text("heads: {variants: [linear]}\ntrain: {data: nano:nq}\neval: {datasets: [pydocs]}\n")
    with pytest.raises(ProjheadsError, match="is only for testing"):
        load_config(path)


def test_official_splits():
    assert [
        official_split(source) for source in ("beir:msmarco", "beir:nfcorpus", "nano:msmarco", "hf:a/b", "x/y")
    ] == [
        "dev",
        "test",
        "train",
        "test",
        "test",
    ]


def test_a_nanobeir_collection_is_read_as_its_repository_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(nano_beir, "OWNER", str(tmp_path))
    datasets.disable_progress_bars()
    tables = {
        "corpus": [{"_id": "d1", "text": "first"}, {"_id": "q1", "text": "the argument itself"}],
        "queries": [{"_id": "q1", "text": "the argument itself"}],
        "qrels": [{"query-id": "q1", "corpus-id": "d1"}],
    }
    lines = ["---", "configs:"]
    for name, rows in tables.items():
        (tmp_path / "NanoArguAna" / name).mkdir(parents=True)
        file = tmp_path / "NanoArguAna" / name / "train.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        lines += [f"- config_name: {name}", "  data_files:", "  - split: train", f"    path: {name}/train.jsonl"]
    (tmp_path / "NanoArguAna" / "README.md").write_text("\n".join([*lines, "---", ""]))
    collection = open_collection("nano:ArguAna", split="train")
    assert list(collection.corpus) == ["d1", "q1"]
    assert collection.qrels == {"q1": {"d1": 1}}
    assert check_source("nano:arguana").startswith("nano:arguana: not on this disk yet")
