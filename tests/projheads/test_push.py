"""Pushing, to a local server that speaks as much of the Hub's protocol as one commit needs."""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from projheads.__main__ import main
from projheads.card import Card, write_card

huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def trial(tmp_path):
    """A trial's folder, with the report of its experiment."""
    folder = tmp_path / "out" / "trials" / "linear" / "seed-0"
    (folder / "model" / ".cache").mkdir(parents=True)
    (folder / "model" / "modules.json").write_text("[]")
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    (folder / "model" / ".cache" / "hidden").write_text("x")
    (folder / "trial.json").write_text("{}")
    (tmp_path / "out" / "report").mkdir()
    (tmp_path / "out" / "report" / "leaderboard.md").write_text("# a table")
    (tmp_path / "out" / "report" / "leaderboard.html").write_text("not sent: it shows the configuration")
    card = Card("t", "linear", "y = Wx", "4 -> 2", folds=True, opens_in=["pylate"], needs_projheads=True)
    write_card(card, folder / "model", name="model")
    return folder


@pytest.fixture
def hub(monkeypatch):
    """A server at the Hub's address; ``hub.files`` are what was committed, ``hub.status`` answers with an error."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
            server.paths.append(self.path)
            if server.status:
                return self.answer({"error": "no"}, server.status)
            if self.path == "/api/repos/create":
                server.created = json.loads(body)
                return self.answer(
                    {"url": f"{huggingface_hub.constants.ENDPOINT}/me/mine", "id": "me/mine", "name": "me/mine"}
                )
            if self.path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if "/preupload/" in self.path:
                modes = [{"path": one["path"], "uploadMode": "regular"} for one in json.loads(body)["files"]]
                return self.answer({"files": [{"shouldIgnore": False, **one} for one in modes]})
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self.answer(
                {"commitUrl": f"{huggingface_hub.constants.ENDPOINT}/me/mine/commit/1", "commitOid": "1"}
            )

        def answer(self, value, status=200):
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.paths, server.files, server.created, server.status = [], {}, None, 0
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_trial_is_sent_with_its_leaderboard(trial, hub, capsys):
    assert main(["push", str(trial), "me/mine", "--private", "--license", "apache-2.0"]) == 0
    assert hub.created.get("private") is True or hub.created["visibility"] == "private"
    assert set(hub.files) == {
        "README.md", "model.safetensors", "modules.json", "trial/trial.json", "leaderboard/leaderboard.md",
    }  # fmt: skip
    assert hub.files["model.safetensors"] == b"weights"
    card = huggingface_hub.ModelCard(hub.files["README.md"].decode())
    assert card.data.license == "apache-2.0"
    assert "The licence is apache-2.0." in card.text
    assert 'models.ColBERT("me/mine")' in card.text
    assert "/me/mine/commit/1" in capsys.readouterr().out


def test_a_dry_run_prints_what_would_be_sent_and_sends_nothing(trial, hub, capsys):
    assert main(["push", str(trial / "model"), "me/mine", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "would be sent to me/mine" in out
    assert re.search(r"^ *model\.safetensors +7 bytes$", out, re.MULTILINE)
    assert 'models.ColBERT("me/mine")' in out
    assert hub.paths == []
    assert main(["push", str(trial), "me/mine", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sent"] is None
    assert found["files"]["model.safetensors"] == 7


@pytest.mark.parametrize(
    ("repo", "spoil", "words"),
    [
        ("mine", None, "write owner/name"),
        ("me/mine/x", None, "not the name of a repository"),
        ("me/mine", lambda trial: (trial / "model" / "modules.json").unlink(), "not a model folder"),
        ("me/mine", lambda trial: (trial / "model" / "README.md").unlink(), "has no card"),
        ("me/mine", lambda trial: (trial / "model" / "x").symlink_to("/etc/hostname"), "leads out of the model folder"),
    ],
)
def test_what_cannot_be_sent_is_one_line(trial, hub, capsys, repo, spoil, words):
    if spoil:
        spoil(trial)
    assert main(["push", str(trial), repo]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert hub.paths == []


@pytest.mark.parametrize(("status", "words"), [(401, "hf auth login"), (403, "refused it"), (400, "refused it")])
def test_a_refusal_of_the_hub_is_one_line(trial, hub, capsys, status, words):
    hub.status = status
    assert main(["push", str(trial), "me/mine"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_no_network_is_one_line(trial, hub, capsys, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert main(["push", str(trial), "me/mine"]) == 2
    assert "cannot be reached" in capsys.readouterr().err
