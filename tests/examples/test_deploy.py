"""The deployment programs, from a model in production to a folder that opens without projheads."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from experiment.collections import Document, write_beir_folder
from projheads import build_head
from projheads.hosts import available_hosts, load_host
from projheads.hosts.base import EncodingSettings

ROOT = Path(__file__).parents[2]
DEPLOYED = {"pylate": "pylate", "sentence_transformers": "sentence-transformers", "stanford": "pylate"}
NOUNS, VERBS = ["cat", "dog", "bird", "rain"], ["sat", "run", "walk"]


def collection(folder, splits):
    """Write a judged collection of twelve documents and queries, and return their texts."""
    words = [(noun, verb) for noun in NOUNS for verb in VERBS]
    corpus = [Document(f"d{place}", "", f"the {noun} {verb} on a mat") for place, (noun, verb) in enumerate(words)]
    queries = {f"q{place}": f"what {verb} the {noun}" for place, (noun, verb) in enumerate(words)}
    qrels = {f"q{place}": {f"d{place}": 1} for place in range(len(words))}
    write_beir_folder(folder, corpus, queries, dict.fromkeys(splits, qrels))
    return list(queries.values()), [document.text for document in corpus]


@pytest.fixture
def data(tmp_path):
    """A judged collection and the file of triplets."""
    queries, texts = collection(tmp_path / "set", ["test"])
    lines = [
        {"query": query, "positive": texts[place], "negative": texts[place - 1]} for place, query in enumerate(queries)
    ]
    (tmp_path / "triplets.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def load(program, host):
    if host not in available_hosts():
        pytest.skip(f"{host} is not installed here")
    return runpy.run_path(str(ROOT / "examples" / f"{program}.py"))


def in_production(host, backbone, folder):
    """A model of the host with the host's linear head."""
    model = load_host(host).create(str(backbone), build_head("linear", 32, 8), EncodingSettings(query_length=8))
    model.save(folder / "production")
    return str(folder / "production")


@pytest.mark.parametrize("host", DEPLOYED)
def test_a_model_is_deployed_without_projheads(host, backbone, data, capsys):
    program = load(f"deploy_{host}", DEPLOYED[host])
    name = in_production(DEPLOYED[host], backbone, data)
    program["main"](name, str(data / "triplets.jsonl"), str(data / "set"), str(data / "out"), "me/mine")
    printed = capsys.readouterr().out
    assert "new head: " in printed
    assert "me/mine/README.md" in printed
    assert printed.endswith("nothing was sent; add `push` to the command to send it\n")
    for folder in ("old-head", "new-head"):
        assert (data / "out" / folder / "modules.json").is_file()
    assert "license: apache-2.0" not in (data / "out" / "deployed" / "README.md").read_text()  # only what is sent
    opened_without_projheads(host, data / "out" / "deployed")


def opened_without_projheads(host, folder):
    """Open a model in a process in which projheads cannot be imported."""
    opening = {
        "pylate": "from pylate.models import ColBERT; model = ColBERT(NAME, device='cpu')",
        "sentence_transformers": "from sentence_transformers import MultiVectorEncoder; MultiVectorEncoder(NAME)",
        "stanford": "from pylate.models import ColBERT; ColBERT(NAME, device='cpu')",
    }[host].replace("NAME", repr(str(folder)))
    code = f"import sys; sys.modules['projheads'] = None; {opening}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("word", "deployed"), [("better", "new"), ("no difference shown", "old"), ("worse", "old")])
def test_only_a_better_head_is_deployed(word, deployed, tmp_path, monkeypatch, capsys):
    decide = load("decide", available_hosts()[0])
    folders = {name: tmp_path / name for name in ("old", "new")}

    def evaluate(arguments):
        assert arguments[:3] == ["models", f"--model={folders['old']}", f"--model={folders['new']}"]
        verdict = {"difference": 0.01, "low": -0.01, "high": 0.03, "word": word}
        rows = [{"label": str(folders["new"]), "verdict": {"new_queries": verdict}}, {"label": str(folders["old"])}]
        (tmp_path / "report").mkdir()
        (tmp_path / "report" / "leaderboard.json").write_text(json.dumps({"rows": rows}))

    monkeypatch.setitem(decide["choose"].__globals__, "evaluate", evaluate)
    assert decide["choose"](folders["old"], folders["new"], "set", tmp_path) == folders[deployed]
    assert f"+1.00 [-1.00, +3.00] points of nDCG@10, {word}" in capsys.readouterr().out
