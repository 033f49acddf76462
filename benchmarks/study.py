"""Runs the study: each experiment of ``configs/study/`` on two backbones, and keeps its leaderboard.

``python -m benchmarks.study [NAME ...] [--backbone minilm] [--only-report]`` resumes what was stopped.
``results/study/<name>-<backbone>/`` receives the configuration with all defaults, and the leaderboard in three formats.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

THREE_COLLECTIONS = "eval.datasets=[.data/study/squad, .data/study/vaswani_npl, .data/study/cranfield]"
"""The collections on which models with trained layers are compared; each such model encodes every text anew."""

LAYERS_ON_A_CPU = ["sweep.seeds=3", "sweep.optimizer.head_lr=[3.0e-4, 1.0e-3, 3.0e-3]", THREE_COLLECTIONS]
"""What differs from ``layers``, which ran on a GPU: three seeds choose the rates, on three collections."""

ALL_LAYERS = ["axes={}", "train.trainable=all", THREE_COLLECTIONS]
"""The whole backbone trained, and nothing else compared."""

EXPERIMENTS: dict[str, tuple[str, list[str]]] = {
    "clip": ("clip", []),
    "clip-pydocs": (
        "clip",
        ["train.data=pydocs", "train.validation=null", "eval.datasets=[pydocs]", "model.document_length=64"],
    ),
    "start": ("start", []),
    "heads": ("heads", []),
    "rates": ("rates", []),
    "scale": ("scale", []),
    "scale-more": (
        "scale",
        [
            "axes.max_pairs=[60000]",
            "seeds=[0, 1, 2, 3, 4]",
            "description=Four heads on a frozen backbone, 60,000 SQuAD pairs.",
        ],
    ),
    "decay": ("decay", []),
    "width": ("width", []),
    "domain": ("domain", []),
    "distill": ("distill", []),
    "negatives": (
        "distill",
        ["train.loss=contrastive", "description=Three heads trained on hard negatives of SQuAD, without a teacher."],
    ),
    "why": ("why", []),
    "centre": ("centre", []),
    "layers": ("layers", []),
    "layers-top": (
        "layers",
        [
            "description=Three heads with the head alone or two layers of the backbone trained, 1,600 SQuAD pairs.",
            "axes.trainable=[head, top-2]",
            *LAYERS_ON_A_CPU,
        ],
    ),
    "layers-all": (
        "layers",
        [
            "description=Three heads with the head alone or the whole backbone trained, 1,600 SQuAD pairs.",
            "axes.trainable=[head, all]",
            *LAYERS_ON_A_CPU,
        ],
    ),
    "layers-slow": (
        "layers",
        [
            "description=Three heads with the whole backbone trained at lower learning rates, 1,600 SQuAD pairs.",
            "sweep.extend=0",
            "sweep.optimizer.head_lr=[9.0e-5, 1.0e-3]",
            "sweep.optimizer.backbone_lr=[3.0e-6, 1.0e-5]",
            *ALL_LAYERS,
        ],
    ),
    "layers-linear": (
        "layers",
        [
            "description=The linear head at the rates that the other heads chose in layers-slow, 1,600 SQuAD pairs.",
            "heads.variants=[linear]",
            "train.optimizer.head_lr=9.0e-5",
            "train.optimizer.backbone_lr=3.0e-6",
            "sweep={}",
            *ALL_LAYERS,
        ],
    ),
}
"""The file of each experiment in ``configs/study/``, and what it overrides."""

TEACHERS = {
    "minilm": ["--model", "sentence-transformers/all-MiniLM-L6-v2"],
    "e5": [
        *("--model", ".data/e5-small-en", "--max-pairs", "1600"),
        *("--query-prefix", "query: ", "--document-prefix", "passage: "),
    ],
}
"""What ``train teach`` is told: each backbone's own similarities, on e5-small of the tuples that training draws."""

BACKBONES: dict[str, list[str]] = {
    "minilm": [],
    "e5": [
        "model.backbone=.data/e5-small-en",
        'model.query_prefix="query: "',
        'model.document_prefix="passage: "',
    ],
}

KEPT = (
    "experiment.yaml",
    "report/leaderboard.json",
    "report/leaderboard.md",
    "report/leaderboard.html",
    "report/why.html",
)
"""The files of an experiment that are committed, if it has them; the HTML contains the figures."""


def main() -> int:
    """Run the experiments that are named, or all of them.

    Returns:
        The number of experiments that failed.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(EXPERIMENTS)}; all by default")
    parser.add_argument("--backbone", choices=BACKBONES, action="append", help="minilm or e5; both by default")
    parser.add_argument("--only-report", action="store_true", help="write the leaderboards of what is there")
    options = parser.parse_args()
    failed = 0
    for name in options.names or EXPERIMENTS:
        for backbone in options.backbone or BACKBONES:
            failed += not _run(name, backbone, only_report=options.only_report)
    return failed


def _run(name: str, backbone: str, *, only_report: bool) -> bool:
    output = Path("outputs/study") / f"{name}-{backbone}"
    file, changed = EXPERIMENTS[name]
    if only_report:
        done = _call("eval", "report", str(output))
    else:
        overrides = [f"output={output}", "threads=1", *changed, *BACKBONES[backbone]]
        if file == "distill":
            tuples = _mined() if name == "negatives" else _taught(backbone)
            if tuples is None:
                return False
            overrides.append(f"train.data.tuples={tuples}")
        done = _call("answer", f"configs/study/{file}.yaml", *overrides)
    results = Path("results/study") / f"{name}-{backbone}"
    if (output / "report").is_dir():
        results.mkdir(parents=True, exist_ok=True)
        for kept in filter(Path.exists, map(output.joinpath, KEPT)):
            shutil.copy2(kept, results / kept.name)
    return done


def _mined() -> Path | None:
    """Return the hard negatives of SQuAD; None if mining them failed."""
    mined = Path("outputs/study/mined.jsonl")
    done = _call("train", "mine", "--source", ".data/squad", "--split", "train", "--out", str(mined))
    return mined if done else None


def _taught(backbone: str) -> Path | None:
    """Return them with the scores of a backbone's own similarities; None if that failed."""
    mined, taught = _mined(), Path(f"outputs/study/taught-{backbone}.jsonl")
    if mined is None or not _call("train", "teach", str(mined), *TEACHERS[backbone], "--out", str(taught)):
        return None
    return taught


def _call(*arguments: str) -> bool:
    print("python -m", *arguments, flush=True)
    return subprocess.run([sys.executable, "-m", *arguments], check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
