"""The cards of written models: read by huggingface_hub, and their snippets run as they are written."""

import re
import subprocess

import pytest

from projheads import build_head
from projheads.card import for_hub, read_card, section_of, set_results
from projheads.export import export_model, fold_model, swap_model
from projheads.export.describe_card import add_card, hub_name
from projheads.hosts import available_hosts
from projheads.hosts.base import EncodingSettings
from projheads.hosts.model_folder import OUR_PROJECTIONS

huggingface_hub = pytest.importorskip("huggingface_hub")

OPENED_BY = {"PyLate": "pylate", "sentence-transformers": "sentence-transformers"}


@pytest.fixture
def saved(host, backbone, tmp_path):
    """Save a model with a card, as training does."""

    def save(spec):
        settings = EncodingSettings(query_length=12, document_length=24)
        model = host.create(str(backbone), build_head(spec, 32, 8), settings)
        model.save(tmp_path / "model")
        add_card(
            tmp_path / "model", model.head, name="model", title="a title", training=["Data: some.", "Seed: 7."],
            base_model="someone/backbone", license="mit",
        )  # fmt: skip
        return tmp_path / "model"

    return save


def run_snippets(folder, monkeypatch):
    """Run what a card says for each installed program, from the folder above; return the shapes of what it makes."""
    monkeypatch.chdir(folder.parent)
    found = {}
    text = (folder / "README.md").read_text().partition("## Open it")[2]
    for title, code in re.findall(r"^### (.+?)\n.*?^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        if title in OPENED_BY and OPENED_BY[title] not in available_hosts():
            continue
        if title == "Stanford's ColBERT":
            continue  # test_export_stanford opens it, with patches for the installed versions
        names = {}
        exec(compile(code, f"{folder}/README.md, {title}", "exec"), names)
        found[title] = names["documents"][0].shape[-1] if "documents" in names else names["document"].shape[-1]
    return found


@pytest.mark.parametrize("spec", ["ffn(depth=2)", "residual(inner=ffn(depth=2))", "glu"])
def test_the_card_of_a_model(saved, host, monkeypatch, spec):
    folder = saved(spec)
    card = huggingface_hub.ModelCard.load(folder / "README.md")
    assert card.data.base_model == "someone/backbone"
    assert card.data.license == "mit"
    assert {"ColBERT", "projheads"} <= set(card.data.tags)
    text = card.text
    assert text.startswith("\n# a title\n") or text.startswith("# a title\n")
    assert f"`{spec}`: " in text
    assert "32 -> 8 features" in text
    assert section_of(card, "Training") == "- Data: some.\n- Seed: 7."
    assert ("pip install 'projheads[" in text) == any(
        type_ in (folder / "modules.json").read_text() for type_ in OUR_PROJECTIONS
    )
    assert ('python -m projheads fold "model" folded' in text) == (spec != "glu")
    assert set(run_snippets(folder, monkeypatch).values()) == {8}


def test_a_fold_keeps_what_the_card_says_of_training_and_results(saved, monkeypatch):
    folder = saved("ffn(depth=2)")
    score = huggingface_hub.EvalResult("text-retrieval", "set", "set", "nDCG@10", 0.5, dataset_split="test")
    set_results(folder, "A table\n\n### with a heading", [score], name="ffn seed 7")
    out = folder.parent / "folded"
    fold_model(str(folder), out)
    card = huggingface_hub.ModelCard.load(out / "README.md")
    assert card.text.lstrip().startswith("# a title, folded\n")
    assert section_of(card, "Training").startswith("- Data: some.\n- Seed: 7.\n- Folded with projheads")
    assert section_of(card, "Results") == "A table\n\n### with a heading"
    assert (card.data.license, card.data.base_model) == ("mit", "someone/backbone")
    assert "projheads[" not in card.text
    assert "python -m projheads fold" not in card.text
    assert set(run_snippets(out, monkeypatch).values()) == {8}


@pytest.mark.parametrize("form", ["dense-chain", "stanford", "onnx"])
def test_exports_have_cards_whose_snippets_run(saved, monkeypatch, form):
    if form == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    folder = saved('ffn(activation="gelu")' if form != "stanford" else "linear")
    out = folder.parent / form
    export_model(str(folder), out, to=form)
    made = run_snippets(out, monkeypatch)
    assert set(made.values()) == {8}
    assert ("ONNX Runtime" in made) == (form == "onnx")
    assert ("### Stanford's ColBERT" in (out / "README.md").read_text()) == (form == "stanford")


def test_a_swap_forgets_the_results_of_the_old_head(saved, monkeypatch):
    folder = saved("linear")
    set_results(folder, "A table", [], name="linear")
    out = folder.parent / "swapped"
    swap_model(str(folder), "lateon", out)
    card = read_card(out)
    assert card.text.lstrip().startswith("# a title, swapped\n")
    assert "A table" not in card.text
    assert "Its head was replaced by `lateon` (init preserve, seed 0)" in section_of(card, "Training")
    assert re.search(r"`lateon = ffn\(.*\)`: ", card.text)
    assert set(run_snippets(out, monkeypatch).values()) == {8}


@pytest.mark.parametrize(
    "text", ["# Theirs\n\n## Usage\n\nUse it.", "---\nlicense: mit\ntags: [other]\n---\n# Theirs\n"]
)
def test_somebody_elses_card_is_kept_below(saved, text):
    folder = saved("linear")
    (folder / "README.md").write_text(text)
    fold_model(str(folder), folder.parent / "folded")
    card = read_card(folder.parent / "folded")
    assert "# Theirs" in section_of(card, "The original model's card") + card.text.partition("original model's card")[2]
    assert card.data.license == ("mit" if "mit" in text else "unknown")
    set_results(folder, "A table", [], name="x")
    assert (folder / "README.md").read_text() == text


@pytest.mark.parametrize("text", ["---\nlicense: [\n---\n# Theirs", "---\n- a\n---\n", "\x00\ud800", ""])
def test_a_damaged_card_stops_nothing(saved, text):
    folder = saved("linear")
    (folder / "README.md").write_bytes(text.encode("utf-8", "surrogatepass"))
    fold_model(str(folder), folder.parent / "folded")
    assert read_card(folder.parent / "folded").data.license == "unknown"


def test_the_fold_command_of_a_card_runs(saved, monkeypatch, capsys):
    from projheads.__main__ import main

    folder = saved("ffn(depth=2)")
    monkeypatch.chdir(folder.parent)
    command = re.search(r"^python -m projheads (fold .*)$", (folder / "README.md").read_text(), re.MULTILINE)[1]
    words = subprocess.run(["bash", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    assert main(words.stdout.split()) == 0
    assert (folder.parent / "folded" / "README.md").is_file()


def test_names_on_the_hub_replace_the_folder(saved, tmp_path, monkeypatch):
    folder = saved("ffn(depth=2)")
    text = for_hub(read_card(folder), "model", "me/mine")
    assert '"me/mine"' in text
    assert '"model"' not in text
    assert 'python -m projheads fold "me/mine" folded' in text
    assert hub_name("me/mine") == "me/mine"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me" / "mine").mkdir(parents=True)
    assert hub_name("me/mine") is None
