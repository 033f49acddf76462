"""Any configuration that is accepted is read back equal from the experiment.yaml that it writes."""

import json
import re
import types
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from experiment.config import (
    DatasetRef,
    EvalConfig,
    ExperimentConfig,
    GivenModelsConfig,
    HeadsConfig,
    QuestionConfig,
    SweepConfig,
    TrainConfig,
)
from experiment.config.dataset_section import EvalDatasetRef
from experiment.config.load import dump_config, given_models_config, load_config, read_resolved
from experiment.config.train_data_section import TrainDataConfig
from experiment.disk.yaml12 import read_yaml
from experiment.fields import OneOf
from experiment.losses import LOSSES
from projheads.errors import ProjheadsError
from tests.fuzz import fuzz

# Strings that YAML 1.1, YAML 1.2 or a careless writer takes for something else.
NAMES = ["1e-4", "1e3", "on", "no", "0o17", "0x1F", "010", "1_000", "1.5", "2020-01-01", "null", "true", "0b11", "e9"]
TEXTS = [
    *NAMES,
    "",
    " ",
    "~",
    "=",
    "<<",
    "1:30",
    ".5",
    ".inf",
    ".NaN",
    "+1",
    "a: b",
    "# a",
    "- a",
    "a\nb\n",
    "\n",
    "\t",
]
TEXTS += ["&a", "*a", "!a", "|", ">", "%a", "@", "`", "'", '"', "\\", "{a}", "[", "é", "\x85", "\u2028", "\ufeff", "🙂"]
ODD = st.sampled_from([None, True, 0, -1, 10**18, 1.5, 1e308, "", "maybe", [], {}, [[]], {"a": 1}])

OMITTED, WRONG = st.sampled_from([True] * 5 + [False]), st.sampled_from([False] * 150 + [True])
WORDS = st.sampled_from(TEXTS) | st.text(max_size=20)
PATHS = st.sampled_from(["out", "a/b", "~/x", *NAMES]) | WORDS
SOURCES = st.sampled_from(["pydocs", "beir:scifact", "nano:scifact", "hf:owner/name", "hf:owner/name/1e-4"])
TRAINED_ON = SOURCES.filter(lambda source: not source.startswith("nano:"))
SUITES = st.sampled_from([{"suite": "nanobeir"}, {"suite": "beir"}, "suite:nanobeir", "beir:cqadupstack"])
VARIANTS = ["ffn", "ffn(depth=2)", "glu", "upscaled(residual=true)", "paper_glu", "linear(bias=true)", "lateon"]
GRIDS = ["ffn(depth={2,3})", "ffn(activation={identity,gelu}, residual={false,true})", "glu(activation={silu, gelu})"]
DEVICES = st.sampled_from(["auto", "cpu", "cuda", "cuda:1", "mps"])
SETTINGS = {
    "optimizer.head_lr": [1e-4, 1, 1e-3],
    "max_grad_norm": [None, 1, 0.5],
    "batch_size": [2, 8, 16],
    "schedule": ["linear", "cosine"],
    "optimizer.betas": [[0.9, 0.99]],
    "loss.temperature": [0.1, 1],
    "warmup_ratio": [0, 0.1],
    "epochs": [1, 2],
}
AXES = SETTINGS | {
    "heads.init": ["torch", "pca"],
    "heads.out_features": [64, 128],
    "trainable": ["head", "all", "top-1"],
    "max_pairs": [100, None, 200],
    "precision": ["fp32", "auto"],
}


def some(*choices):
    return st.lists(st.sampled_from(choices), min_size=1, max_size=3, unique=True)


def grids(settings):
    keys = st.lists(st.sampled_from(sorted(settings)), max_size=2, unique=True)
    return keys.flatmap(lambda keys: st.fixed_dictionaries({key: st.permutations(settings[key]) for key in keys}))


SPECIAL = {
    (ExperimentConfig, "name"): st.sampled_from(NAMES),
    (ExperimentConfig, "device"): DEVICES,
    (GivenModelsConfig, "device"): DEVICES,
    (ExperimentConfig, "axes"): grids(AXES),
    (SweepConfig, "grid"): grids(SETTINGS),
    (QuestionConfig, "seeds"): st.sampled_from([[3, 20], "3..20", [3, 3], "4 .. 5", [20, 3]]),
    (DatasetRef, "source"): SOURCES,
    (EvalDatasetRef, "source"): SOURCES,
    (EvalDatasetRef, "name"): st.sampled_from(NAMES),
    (EvalDatasetRef, "group"): st.sampled_from([None, *NAMES]),
    (EvalConfig, "datasets"): st.tuples(SOURCES | SUITES | st.deferred(lambda: section(EvalDatasetRef))).map(list),
    (EvalConfig, "index"): st.sampled_from(["auto", "exact", "IVF16,Flat", "Flat", "HNSW16", "IVF8,PQ16"]),
    (EvalConfig, "measures"): some("nDCG@10", "R@100", "RR@10", "P(rel=2)@5", "AP", "nDCG(dcg='exp-log2')@5"),
    (EvalConfig, "storage"): some("fp16", "int8", "pq16", "rq16", "dim64", "dim64-int8"),
    (HeadsConfig, "variants"): some(*VARIANTS, *GRIDS).map(lambda more: ["linear", *more]),
    (HeadsConfig, "baseline"): st.sampled_from(["linear"] * 9 + ["ffn"]),
    (HeadsConfig, "init"): st.sampled_from(["torch", "pca", "xavier", "shared", "orthogonal"]),
    (HeadsConfig, "out_features"): st.sampled_from([96, 64, 128, [128, 64, 32]]),
    (HeadsConfig, "matryoshka"): st.sampled_from([[], [64], [64, 32]]),
    (HeadsConfig, "grids"): st.just([]),
    (HeadsConfig, "files"): st.just([]),
    (TrainConfig, "data"): TRAINED_ON | st.deferred(lambda: section(TrainDataConfig)),
    (TrainDataConfig, "source"): TRAINED_ON,
    (TrainDataConfig, "tuples"): st.sampled_from([None, "1e-4.jsonl", "hf:owner/name"]),
    (TrainConfig, "trainable"): st.sampled_from(["head", "top-2", "all"]),
}  # fmt: skip


def values(annotation, limits=()):
    """Values of a type, mostly valid ones."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return values(arguments[0], (*limits, *arguments[1:]))
    if origin in (types.UnionType, typing.Union):
        return st.one_of([values(argument, limits) for argument in arguments])
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        several = st.lists(values(arguments[0]), min_size=1, max_size=3, unique_by=json.dumps)
        return several if arguments[-1] is ... else st.tuples(*map(values, arguments)).map(list)
    if origin is dict:
        return st.just({})
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return section(annotation)
    least = max(
        [
            bound
            for limit in flat(limits)
            for bound in (getattr(limit, "ge", None), getattr(limit, "gt", None))
            if bound is not None
        ],
        default=0,
    )
    plain = {
        type(None): st.none(),
        bool: st.booleans(),
        int: st.integers(least, least + 3) | st.sampled_from([128, 1000, 2**62]),
        float: st.sampled_from([least, 0.1, 1, 1e-5, 1e-4, 3e16, 5e-324, 0.30000000000000004]) | st.floats(least, 1),
        str: WORDS,
    }
    return plain.get(annotation, PATHS)


def flat(limits):
    return [one for limit in limits for one in getattr(limit, "metadata", [limit])]


@st.composite
def section(draw, model):
    """A section with any of its options."""
    made = {}
    for name, field in model.model_fields.items():
        if not field.is_required() and name != "source" and draw(OMITTED):
            continue
        losses = [choice for choice in field.metadata if isinstance(choice, OneOf)]
        if losses:
            usual = st.sampled_from(sorted(LOSSES)) | st.one_of([section(loss) for loss in LOSSES.values()])
        else:
            usual = SPECIAL[model, name] if (model, name) in SPECIAL else values(field.annotation, field.metadata)
        made[name] = draw(ODD if draw(WRONG) else usual)
    return made


def written(value):
    """Write a value as JSON, which is YAML too once unprintable characters are escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[^\x20-\x7e\n]", lambda found: f"\\U{ord(found[0]):08x}", text)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("round-trip")


@fuzz(50)
@given(section(ExperimentConfig), st.sampled_from(NAMES))
def test_an_accepted_configuration_reads_back_equal(folder, given, stem):
    file = folder / f"{stem}.yaml"
    file.write_text(written(given), encoding="utf-8")
    try:
        config = load_config(file)
    except ProjheadsError as error:
        refused = str(error).split("\n")
    else:
        refused = []
        (folder / "experiment.yaml").write_text(dump_config(config), encoding="utf-8")
        assert read_resolved(folder) == config
    assert all(line.startswith(f"{file}") for line in refused)


@fuzz(50)
@given(section(GivenModelsConfig))
def test_an_accepted_evaluation_of_models_reads_back_equal(given):
    try:
        config = given_models_config(given)
    except ProjheadsError:
        return
    assert given_models_config(read_yaml(dump_config(config), "evaluation.yaml")[0]) == config
