"""Makes experiment folders with known scores, from the records that training and evaluation write."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from experiment.disk.files import write_text
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.disk.records import (
    DatasetFacts,
    EvaluationBytes,
    EvaluationRecord,
    EvaluationTimings,
    FinalLoss,
    IndexFacts,
    ReferenceRecord,
    StandIn,
    StandInStates,
    StorageEntry,
    SweepPoint,
    SweepRecord,
    TextCounts,
    TextsRecord,
    TrainLine,
    TrainTimings,
    TrialRecord,
)

HOSTILE = (
    '<script>document.title="gone"</script><img src=x onerror="document.title=1"> & '
    "\u202eright to left\u202c $x_1$ \\input{a} **bold** [a](b) | ~^%#"
)
MEASURES = ("nDCG@10", "R@100", "RR@10")


@dataclass
class Plan:
    """What an experiment holds. ``effects``: true difference of each variant to the first, the baseline."""

    effects: dict[str, float] = field(
        default_factory=lambda: {
            "linear": 0.0,
            "ffn(depth=2)": 0.002,
            'ffn(depth=2, activation="gelu")': -0.03,
            'residual(inner=glu(activation="silu"))': 0.05,
        }
    )
    seeds: tuple[int, ...] = (0, 1, 2)
    datasets: tuple[str, ...] = ("pydocs",)
    queries: int = 60
    seed_sd: float = 0.003
    query_sd: float = 0.03
    noise_sd: float = 0.08
    references: tuple[str, ...] = ("bm25", "backbone", "untrained")
    failed: dict[tuple[str, int], str] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=lambda: {"empty_documents": 2, "duplicate_judgements": 0})
    description: str = "Which head is best?"
    texts: dict[str, str] | None = None
    storage: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By form of storage: bytes of a vector, and how much it takes off every score."""
    sweep: SweepRecord | None = None
    """The sweep of every trial."""


def slug(label: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in label).strip("-")[:40] + "-" + _hash(label)[:6]


def make_experiment(path: Path, plan: Plan | None = None, *, random: int = 0) -> Path:
    """Write the folder and return it."""
    plan = plan or Plan()
    generator = np.random.default_rng(random)
    folder = ExperimentFolder(path)
    labels = list(plan.effects)
    base = {name: np.clip(generator.normal(0.55, 0.25, plan.queries), 0.1, 0.9) for name in plan.datasets}
    query_part = {
        (label, name): generator.normal(0, plan.query_sd, plan.queries) for label in labels for name in plan.datasets
    }
    for place, label in enumerate(labels):
        for seed in plan.seeds:
            trial = folder.trial(slug(label), seed)
            error = plan.failed.get((label, seed))
            trial_record(label, seed, place, error, plan.sweep).write(trial.trial_json)
            if error:
                continue
            write_text(trial.train_jsonl, steps(seed, place))
            shift = generator.normal(0, plan.seed_sd)
            for name in plan.datasets:
                noise = generator.normal(0, plan.noise_sd, plan.queries)
                values = base[name] + plan.effects[label] + shift + query_part[label, name] + noise
                write_eval(trial, name, values, plan)
    for name in plan.references:
        for seed in plan.seeds if name == "untrained" else (0,):
            reference = folder.reference(name, seed)
            ReferenceRecord(name=name, description=f"what {name} is", seed=seed).write(reference.reference_json)
            for dataset in plan.datasets:
                values = base[dataset] - 0.1 + generator.normal(0, plan.noise_sd, plan.queries)
                write_eval(reference, dataset, values, plan)
    config = {
        "name": path.name,
        "description": plan.description,
        "seeds": list(plan.seeds),
        "model": {"query_length": 32, "document_length": 64},
        "heads": {"baseline": labels[0], "variants": labels},
        "eval": {"datasets": [{"name": name} for name in plan.datasets], "measures": list(MEASURES)},
    }
    write_text(folder.experiment_yaml, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    if plan.texts is not None:
        for name in plan.datasets:
            queries = {f"q{i}": plan.texts.get("query", f"query {i}") for i in range(plan.queries)}
            documents = {f"d{i}": plan.texts.get("document", f"document {i}") for i in range(10)}
            TextsRecord(queries=queries, documents=documents).write(folder.texts_json(name))
    return path


def trial_record(label: str, seed: int, place: int, error: str | None, sweep: SweepRecord | None = None) -> TrialRecord:
    return TrialRecord(
        status="failed" if error else "finished",
        error=error,
        label=label,
        slug=slug(label),
        head={"name": label.split("(")[0], "options": {}},
        head_files={},
        is_baseline=place == 0,
        seed=seed,
        in_features=384,
        out_features=128,
        init="torch",
        start_group=label,
        trainable="head",
        states="stored",
        key=_hash(f"key {label} {seed}"),
        config_hash=_hash("config"),
        data_hash=_hash("data"),
        weights_hash=None if error else _hash(f"weights {label} {seed}"),
        backbone="sentence-transformers/all-MiniLM-L6-v2",
        host="pylate",
        versions={"projheads": "0.1.0", "torch": "2.11.0"},
        device="cpu",
        precision="fp32",
        parameters=49152 * (1 + place),
        multiply_adds=49152 * (1 + place),
        inference_multiply_adds=49152 * (1 + place if place >= 2 else 1),
        folds=place < 2,
        steps=40,
        learning_rate=0.001,
        train=None if error else FinalLoss(loss=1.2, clipped=min(1.0, 0.25 + 0.5 * place)),
        validation={"loss": 1.1, "accuracy": 0.4, "nDCG@10": 0.5},
        timings=TrainTimings(train_s=8.0 + place, examples_per_s=400.0 / (1 + place)),
        peak_memory_bytes=10**9,
        sweep=sweep,
    )


def steps(seed: int, place: int) -> str:
    lines = []
    for step in range(1, 41):
        loss = 3 / (1 + 0.1 * step) + 0.05 * place + 0.01 * seed
        lines.append(TrainLine(step=step, loss=loss, learning_rate=0.001, gradient_norm=1.0, examples_per_s=400.0))
        if step % 10 == 0:
            scores = {"validation_loss": loss + 0.1, "validation_accuracy": 0.4, "validation_nDCG@10": 0.5}
            lines.append(TrainLine(step=step, **scores))
    return "".join(f"{json.dumps(line.to_dict())}\n" for line in lines)


def evaluation_record(folder: TrialFolder, dataset: str, values: np.ndarray, plan: Plan) -> EvaluationRecord:
    scores = np.clip(values, 0, 1)
    per_query = {f"q{i}": float(value) for i, value in enumerate(scores)}
    return EvaluationRecord(
        key=_hash(f"{folder.path.name} {dataset}"),
        dataset=DatasetFacts(
            name=dataset,
            source=dataset,
            split="test",
            hash=_hash(dataset),
            documents=1234,
            queries=plan.queries,
            notes=plan.notes,
        ),
        index=IndexFacts(kind="exact", depth=100),
        measures=dict.fromkeys(MEASURES, per_query),
        means=dict.fromkeys(MEASURES, float(scores.mean())),
        timings=EvaluationTimings(encode_s=2.0, index_s=0.1, search_s=0.5),
        bytes=EvaluationBytes(token_vectors=10**6, index=0),
        versions={"projheads": "0.1.0"},
        truncated=TextCounts(queries=0, documents=12),
        storage=storage_entries(per_query, plan),
    )


def write_eval(folder: TrialFolder, dataset: str, values: np.ndarray, plan: Plan) -> None:
    evaluation_record(folder, dataset, values, plan).write(folder.eval_json(dataset))
    lines = [
        f"q{i} Q0 d{(i + rank) % 10} {rank + 1} {10.0 - rank} projheads"
        for i in range(len(values))
        for rank in range(3)
    ]
    write_text(folder.eval_run(dataset), "\n".join(lines) + "\n")


def storage_entries(per_query: dict[str, float], plan: Plan) -> dict[str, StorageEntry]:
    entries = {}
    for form, (size, loss) in plan.storage.items():
        scores = {query: score - loss for query, score in per_query.items()}
        mean = sum(scores.values()) / len(scores)
        entries[form] = StorageEntry(
            key=_hash(form),
            bytes_per_vector=size,
            index_bytes=1000 * size,
            measures=dict.fromkeys(MEASURES, mean),
            per_query=scores,
        )
    return entries


def stand_in(record: EvaluationRecord, loss: float) -> StandIn:
    """A linear stand-in that scores ``loss`` less on every query."""
    measures = {
        name: {query: score - loss for query, score in scores.items()} for name, scores in record.measures.items()
    }
    return StandIn(
        r2=0.9,
        mean_cosine=0.97,
        fitted_on="queries and documents",
        states=StandInStates(fitted=900, held_out=100),
        measures=measures,
        means={name: sum(scores.values()) / len(scores) for name, scores in measures.items()},
    )


def without(measures: dict[str, dict[str, float]], query: str) -> dict[str, dict[str, float]]:
    """The scores of all queries but one."""
    return {name: {one: score for one, score in scores.items() if one != query} for name, scores in measures.items()}


def sweep_record(
    scores: dict[float, list[float | None]], *, measure: str = "nDCG@10 on 128 held-out pairs"
) -> SweepRecord:
    """What train/sweep.py writes of a sweep of the learning rate: by rate, the score of each seed."""
    complete = {rate: one for rate, one in scores.items() if None not in one}
    chosen = max(complete, key=lambda rate: sum(complete[rate]))
    return SweepRecord(
        measure=measure,
        grid={"optimizer.head_lr": list(scores)},
        chosen={"optimizer.head_lr": chosen},
        chosen_by_all={"optimizer.head_lr": chosen},
        at_edge=["optimizer.head_lr"] if chosen in (min(scores), max(scores)) else [],
        points=[
            SweepPoint(values={"optimizer.head_lr": rate}, seeds={str(seed): score for seed, score in enumerate(one)})
            for rate, one in scores.items()
        ],
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
