"""Makes experiment folders in the on-disk format, with known scores, for the tests of reports and verdicts."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from experiment.disk.files import write_json, write_text
from experiment.disk.layout import ExperimentFolder

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
    sweep: dict | None = None
    """What trial.json says of the sweep, for every trial."""


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
            record = trial_record(label, seed, place, error)
            write_json(trial.trial_json, record | ({"sweep": plan.sweep} if plan.sweep else {}))
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
            record = {"schema_version": 1, "name": name, "description": f"what {name} is", "seed": seed}
            write_json(reference.reference_json, record)
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
            write_json(folder.texts_json(name), {"queries": queries, "documents": documents})
    return path


def trial_record(label: str, seed: int, place: int, error: str | None) -> dict:
    return {
        "schema_version": 1,
        "status": "failed" if error else "finished",
        "label": label,
        "slug": slug(label),
        "head": {"name": label.split("(")[0], "options": {}},
        "is_baseline": place == 0,
        "in_features": 384,
        "out_features": 128,
        "seed": seed,
        "init": "torch",
        "key": _hash(f"key {label} {seed}"),
        "config_hash": _hash("config"),
        "data_hash": _hash("data"),
        "weights_hash": _hash(f"weights {label} {seed}"),
        "versions": {"projheads": "0.1.0", "torch": "2.11.0"},
        "device": "cpu",
        "precision": "fp32",
        "timings": {"train_s": 8.0 + place, "examples_per_s": 400.0 / (1 + place)},
        "peak_memory_bytes": 10**9,
        "parameters": 49152 * (1 + place),
        "multiply_adds": 49152 * (1 + place),
        "folds": place < 2,
        "steps": 40,
        "train": {"loss": 1.2},
        "validation": {"loss": 1.1, "accuracy": 0.4},
        "learning_rate": 0.001,
        "error": error,
    }


def steps(seed: int, place: int) -> str:
    lines = []
    for step in range(1, 41):
        loss = 3 / (1 + 0.1 * step) + 0.05 * place + 0.01 * seed
        lines.append(
            f'{{"step": {step}, "loss": {loss}, "learning_rate": 0.001, "gradient_norm": 1.0, "examples_per_s": 400.0}}'
        )
        if step % 10 == 0:
            lines.append(f'{{"step": {step}, "validation_loss": {loss + 0.1}, "validation_accuracy": 0.4}}')
    return "\n".join(lines) + "\n"


def write_eval(folder, dataset: str, values: np.ndarray, plan: Plan) -> None:
    scores = np.clip(values, 0, 1)
    per_query = {f"q{i}": float(value) for i, value in enumerate(scores)}
    measures = dict.fromkeys(MEASURES, per_query)
    write_json(
        folder.eval_json(dataset),
        {
            "schema_version": 1,
            "key": _hash(f"{folder.path.name} {dataset}"),
            "dataset": {
                "name": dataset,
                "source": dataset,
                "split": "test",
                "hash": _hash(dataset),
                "documents": 1234,
                "queries": plan.queries,
                "notes": plan.notes,
            },
            "index": {
                "kind": "exact",
                "factory": None,
                "nprobe": None,
                "candidates_per_token": None,
                "depth": 100,
                "candidate_recall": None,
            },
            "measures": measures,
            "means": {name: float(scores.mean()) for name in MEASURES},
            "timings": {"encode_s": 2.0, "index_s": 0.1, "search_s": 0.5},
            "bytes": {"token_vectors": 10**6, "index": 0},
            "versions": {"projheads": "0.1.0"},
            "truncated": {"queries": 0, "documents": 12},
        }
        | ({"storage": storage_entries(per_query, plan)} if plan.storage else {}),
    )
    lines = [
        f"q{i} Q0 d{(i + rank) % 10} {rank + 1} {10.0 - rank} projheads"
        for i in range(len(scores))
        for rank in range(3)
    ]
    write_text(folder.eval_run(dataset), "\n".join(lines) + "\n")


def storage_entries(per_query: dict[str, float], plan: Plan) -> dict:
    entries = {}
    for form, (size, loss) in plan.storage.items():
        scores = {query: score - loss for query, score in per_query.items()}
        mean = sum(scores.values()) / len(scores)
        entries[form] = {
            "key": _hash(form),
            "bytes_per_vector": size,
            "index_bytes": 1000 * size,
            "measures": dict.fromkeys(MEASURES, mean),
            "per_query": scores,
        }
    return entries


def sweep_record(scores: dict[float, list[float | None]], *, measure: str = "nDCG@10 on 128 held-out pairs") -> dict:
    """What train/sweep.py writes of a sweep of the learning rate: by rate, the score of each seed."""
    whole = {rate: one for rate, one in scores.items() if None not in one}
    chosen = max(whole, key=lambda rate: sum(whole[rate]))
    return {
        "measure": measure,
        "grid": {"optimizer.head_lr": list(scores)},
        "chosen": {"optimizer.head_lr": chosen},
        "at_edge": ["optimizer.head_lr"] if chosen in (min(scores), max(scores)) else [],
        "points": [
            {"values": {"optimizer.head_lr": rate}, "seeds": {str(seed): score for seed, score in enumerate(one)}}
            for rate, one in scores.items()
        ],
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
