"""``python tests/peers CHECKOUT``: a peer's own tests, with its ``Dense`` and with our heads in its place.

CHECKOUT is a folder of PyLate's or sentence-transformers' source with its tests, of the version that is installed::

    pip download --no-binary :all: --no-deps pylate==1.6.0                                # its sdist has the tests
    git clone --branch v6.2.0 https://github.com/huggingface/sentence-transformers

Every test runs several times: with theirs, which is the control; with a head of ours that holds their weights; and
with heads of other kinds. What passes with theirs and fails with ours is a fault of ours, unless ``expected.json``
says why it cannot pass.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HEADS = ["theirs", "same", 'upscaled(activation="gelu", residual=true)']
Runs = dict[str, dict[str, dict[str, Any]]]
"""Head -> test -> its outcome, the reason where it is no pass, and the models that had got a head of ours by then."""
# What is run of each peer; a file that is left out tests no model, or clears the cache of the hub.
SUITES = {
    "pylate": ["tests"],
    "sentence-transformers": ["tests/multi_vector_encoder"],
}
IGNORED = {"pylate": ["tests/test_model_loading.py"], "sentence-transformers": []}


def peer_of(checkout: Path) -> str:
    """Tell by its folders which peer a checkout is of."""
    return "pylate" if (checkout / "tests" / "test_colbert_scores.py").is_file() else "sentence-transformers"


def run_suite(checkout: Path, head: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Run a peer's tests with one head; returns test -> {outcome, reason}."""
    peer = peer_of(checkout)
    shutil.copytree(checkout / "tests", folder / "tests")
    (folder / "pytest.ini").write_text("[pytest]\n")
    outcomes = folder / "outcomes.jsonl"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")]),
        "PEER_HEAD": head,
        "PEER_OUTCOMES": str(outcomes),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder.parent / "hf"),
        "HF_HUB_CACHE": str(folder.parent / "hub"),
        "CUDA_VISIBLE_DEVICES": "",
        "WANDB_MODE": "disabled",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-c", "pytest.ini", "-p", "peer_plugin", "-p", "no:cacheprovider"]
    command += ["-m", "not slow and not web and not custom", "--tb=line", *SUITES[peer]]
    command += [f"--ignore={path}" for path in IGNORED[peer]]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if not outcomes.is_file():
        raise RuntimeError(f"the tests of {checkout} did not start:\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}")
    lines = [json.loads(line) for line in outcomes.read_text().splitlines()]
    return {line["test"]: line for line in lines}


def run_peer(checkout: Path, heads: list[str]) -> Runs:
    """Run a peer's tests with each head."""
    with tempfile.TemporaryDirectory() as temporary:
        sys.path.insert(0, str(HERE))
        import hub

        hub.build_hub(Path(temporary) / "hub")
        runs = {}
        for number, head in enumerate(heads):
            folder = Path(temporary) / f"run-{number}"
            folder.mkdir()
            runs[head] = run_suite(checkout, head, folder)
    return runs


def faults(runs: Runs, expected: dict[str, str]) -> list[str]:
    """List the tests that pass with theirs and not with ours, without a reason in ``expected``."""
    missing = {"outcome": "missing", "reason": "the test did not run"}
    return [
        f"{test} [{head}]: {run.get(test, missing)['reason']}"
        for test, theirs in runs["theirs"].items()
        for head, run in runs.items()
        if theirs["outcome"] == "passed" != run.get(test, missing)["outcome"] and test not in expected
    ]


def expected_of(checkout: Path) -> dict[str, str]:
    """Return the tests of a peer that can only pass with its own class, with the reason."""
    known: dict[str, dict[str, str]] = json.loads((HERE / "expected.json").read_text())
    return known[peer_of(checkout)]


def main(arguments: list[str] | None = None) -> int:
    """Run a peer's tests, print a Markdown table; returns 1 where a head of ours is at fault."""
    parser = argparse.ArgumentParser(prog="python tests/peers", description="A peer's own tests with our heads.")
    parser.add_argument("checkout", type=Path, help="folder of the peer's source")
    parser.add_argument("--head", dest="heads", action="append", help="a head's spec, or `same` for their weights")
    parser.add_argument(
        "--json", type=Path, help="keep every outcome in this file; heads that it has already are not run again"
    )
    options = parser.parse_args(arguments)
    known: Runs = json.loads(options.json.read_text()) if options.json and options.json.is_file() else {}
    heads = list(dict.fromkeys(["theirs", *(options.heads or HEADS[1:])]))
    runs = known | run_peer(options.checkout.resolve(), [head for head in heads if head not in known])
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1) + "\n")
    expected = expected_of(options.checkout)
    print("| head | passed | failed | skipped | models with a head of ours |\n|---|---|---|---|---|")
    for head, run in runs.items():
        lines = run.values()
        counts = [sum(line["outcome"] == outcome for line in lines) for outcome in ("passed", "failed", "skipped")]
        print(f"| `{head}` | {' | '.join(map(str, counts))} | {max(line['models'] for line in lines)} |")
    found = faults(runs, expected)
    print("\n".join(["", *found, f"{len(found)} fault(s) of ours, {len(expected)} test(s) expected to differ"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
