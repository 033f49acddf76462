"""The peers' own tests with our heads, where there is a checkout; and always, the machinery that runs them."""

import os
from pathlib import Path

import pytest

from projheads.hosts import available_hosts
from tests.peers.__main__ import faults, main, run_peer

PEER = available_hosts()[0]
FAKE = {
    "pylate": (
        "tests/test_colbert_scores.py",
        "from pylate.models import ColBERT as Model\nencode = lambda model: model.encode(['a'], is_query=True)\n",
    ),
    "sentence-transformers": (
        "tests/multi_vector_encoder/test_model.py",
        "from sentence_transformers import MultiVectorEncoder as Model\n"
        "encode = lambda model: model.encode_query(['a'])\n",
    ),
}
TESTS = """
model = Model("lightonai/GTE-ModernColBERT-v1", device="cpu")

def test_the_width():
    assert encode(model)[0].shape[-1] == 128

def test_its_class():
    assert type(model[1]).__name__ == "Dense"
"""


def test_a_fault_is_what_passes_with_theirs_and_fails_with_ours(tmp_path):
    path, imports = FAKE[PEER]
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(imports + TESTS)
    runs = run_peer(tmp_path, ["theirs", "same"])
    outcomes = {
        head: {test.split("::")[1]: line["outcome"] for test, line in run.items()} for head, run in runs.items()
    }
    assert outcomes["theirs"] == {"test_the_width": "passed", "test_its_class": "passed"}
    assert outcomes["same"] == {"test_the_width": "passed", "test_its_class": "failed"}
    assert [line["models"] for line in runs["same"].values()] == [1, 1]
    (fault,) = faults(runs, {})
    assert fault.startswith(f"{path}::test_its_class [same]: ")
    assert faults(runs, {f"{path}::test_its_class": "looks at the class"}) == []


def test_the_peers_own_tests_pass():
    checkout = Path(os.environ.get("PROJHEADS_PEERS", "nowhere")) / PEER
    if not (checkout / "tests").is_dir():
        pytest.skip(
            f"no checkout of {PEER}: set PROJHEADS_PEERS to a folder that holds one as {PEER}/; "
            "tests/peers/__main__.py says how to get it"
        )
    assert main([str(checkout)]) == 0
