"""Model cards: the README.md of a model folder, in the Hugging Face Hub's format.

A card says which head a model has, how it was made, how it compares, and how each program that opens it does so. The
metadata at its top is written and read by huggingface_hub, which is installed with every host.
"""

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

__all__ = [
    "CARD_FILE",
    "Card",
    "data_of",
    "for_hub",
    "is_ours",
    "license_of",
    "read_card",
    "section_of",
    "set_license",
    "set_results",
    "title_of",
    "write_card",
]

CARD_FILE = "README.md"
TAG = "projheads"
UNKNOWN_LICENSE = "unknown"
NOT_EVALUATED = "Not evaluated yet. `python -m eval` fills in the leaderboard."


@dataclass(frozen=True)
class Way:
    """How a program opens a model; ``NAME`` is the folder, ``TRUST`` an argument that lets projheads' class load."""

    title: str
    install: str
    with_projheads: str
    snippet: str


WAYS = {
    "pylate": Way(
        "PyLate",
        "pip install pylate",
        "pip install 'projheads[pylate]'",
        """from pylate import models

model = models.ColBERT("NAME")
queries = model.encode(["what does a head do?"], is_query=True)
documents = model.encode(["a head projects token states"], is_query=False)
""",
    ),
    "sentence-transformers": Way(
        "sentence-transformers",
        "pip install 'sentence-transformers>=6'",
        "pip install 'projheads[sentence-transformers]'",
        """from sentence_transformers import MultiVectorEncoder

model = MultiVectorEncoder("NAME"TRUST)
queries = model.encode_query(["what does a head do?"])
documents = model.encode_document(["a head projects token states"])
""",
    ),
    "projheads": Way(
        "projheads",
        "",
        "pip install 'projheads[pylate]' peft  # or projheads[sentence-transformers]",
        """from projheads.hosts import load_host

model = load_host("auto").load("NAME")  # merges the adapter into the backbone
queries = model.encode(["what does a head do?"], is_query=True)
documents = model.encode(["a head projects token states"], is_query=False)
""",
    ),
    "colbert-ai": Way(
        "Stanford's ColBERT",
        "pip install colbert-ai",
        "",
        """from colbert.infra import ColBERTConfig
from colbert.modeling.checkpoint import Checkpoint

model = Checkpoint("NAME", colbert_config=ColBERTConfig(checkpoint="NAME"))
queries = model.queryFromText(["what does a head do?"])
documents = model.docFromText(["a head projects token states"], keep_dims=False)
""",
    ),
    "onnxruntime": Way(
        "ONNX Runtime",
        "pip install onnxruntime tokenizers",
        "",
        """import json
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

folder = Path("NAME")
about = json.loads((folder / "encoding.json").read_text())
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
session = onnxruntime.InferenceSession(folder / "model.onnx")
prefix = about["document_prefix_id"]
tokenizer.enable_truncation(about["document_length"] - (prefix is not None))
ids = tokenizer.encode("a head projects token states").ids
if prefix is not None:
    ids.insert(1, prefix)
(vectors,) = session.run(None, {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)})
document = vectors[0][~np.isin(ids, about["skiplist_ids"])]  # encoding.json also says how queries are expanded
""",
    ),
}
"""The programs that open a model, by the name that ``opens_in`` gives them."""


@dataclass(frozen=True)
class Card:
    """What a model card says.

    Attributes:
        title: Its heading.
        head: The head, as a configuration writes it.
        formula: What the head computes, in one line.
        size: Its widths and parameters, in one line.
        folds: Whether it folds into one matrix.
        opens_in: The programs that open the folder, by their names in ``WAYS``.
        needs_projheads: Whether they need projheads for it.
        head_files: Names of the files outside projheads that define the head.
        training: How the model was made, one line per fact.
        results: The text of the section ``Results``; empty if it was not evaluated.
        original: The card of the model that this one was made from, if it was not one of ours.
        base_model: The backbone, or the model that this one was made from, if it is on the Hub.
        license: Its identifier on the Hub; None if unknown.
        foldable: Whether ``python -m projheads fold`` applies to the folder.
    """

    title: str
    head: str
    formula: str
    size: str
    folds: bool
    opens_in: Sequence[str]
    needs_projheads: bool
    head_files: Sequence[str] = ()
    training: Sequence[str] = ()
    results: str = ""
    original: str = ""
    base_model: str | None = None
    license: str | None = None
    foldable: bool = True


def write_card(card: Card, folder: Path, *, name: str) -> None:
    """Write the card of a model folder; the same facts give the same bytes.

    Args:
        card: What it says.
        folder: The folder, which may have a temporary name.
        name: The name of the folder in its snippets.
    """
    from huggingface_hub import ModelCard, ModelCardData

    host = next((one for one in card.opens_in if one in ("pylate", "sentence-transformers")), None)
    library = {"pylate": "PyLate", "sentence-transformers": "sentence-transformers"}
    data = ModelCardData(
        base_model=card.base_model,
        library_name=library.get(host or ""),
        license=card.license or UNKNOWN_LICENSE,
        pipeline_tag="sentence-similarity",
        tags=["ColBERT", "multi-vector", TAG],
    )
    _write(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_body(card, name)}"), folder)


def _body(card: Card, name: str) -> str:
    lines = [
        f"# {card.title}",
        "",
        "A late-interaction model: it embeds every token of a text, and MaxSim compares a query with a document.",
        "",
        "## Head",
        "",
        f"`{card.head}`: {card.formula}",
        "",
        card.size,
        "",
    ]
    if card.training:
        lines += ["## Training", "", *(f"- {line}" for line in card.training), ""]
    lines += ["## Results", "", card.results or NOT_EVALUATED, "", "## Open it", ""]
    for way in [WAYS[one] for one in card.opens_in]:
        install = way.with_projheads if card.needs_projheads else way.install
        registered = [f"import_head_file({file!r})" for file in card.head_files] if card.needs_projheads else []
        if registered:
            registered = ["from projheads.registry import import_head_file", "", *registered, ""]
        code = "\n".join([*registered, way.snippet]).replace("NAME", name)
        code = code.replace("TRUST", ", trust_remote_code=True" if card.needs_projheads else "")
        lines += [f"### {way.title}", "", "```bash", install, "```", "", "```python", code.rstrip(), "```", ""]
    fold = ["The head is not one matrix, so it does not fold. `python -m projheads export --to onnx` takes any head."]
    if card.folds:
        command = f'python -m projheads fold "{name}" folded'
        fold = ["This writes the same model with one matrix as its head, which opens without projheads:", ""]
        fold += ["```bash", command, "```"]
    lines += ["## Fold it", "", *fold, ""] if card.foldable else []
    licence = (
        f"The licence is {card.license}." if card.license else "The licence is that of the base model and the data."
    )
    lines += ["## Licence", "", licence, ""]
    if card.original:
        lines += ["## The original model's card", "", card.original.strip(), ""]
    return "\n".join(lines)


def read_card(folder: Path) -> "ModelCard | None":
    """Read the card of a folder; None if it has none, or its metadata cannot be read."""
    from huggingface_hub import ModelCard

    with contextlib.suppress(Exception):  # a card of any content may be there
        return ModelCard((folder / CARD_FILE).read_text(encoding="utf-8"), ignore_metadata_errors=True)
    return None


def data_of(card: "ModelCard") -> "ModelCardData":
    """Return the metadata of a card."""
    return cast("ModelCardData", card.data)


def is_ours(card: "ModelCard") -> bool:
    """Return whether a card was written by this module."""
    return TAG in (data_of(card).tags or [])


def license_of(folder: Path) -> str | None:
    """Return the licence that the card of a model folder names; None if it names none."""
    card = read_card(folder) if importlib.util.find_spec("huggingface_hub") else None
    found = None if card is None else data_of(card).license
    return None if found == UNKNOWN_LICENSE else found


def title_of(card: "ModelCard") -> str:
    """Return the heading of a card; empty if it has none."""
    found = re.search(r"^# (.+)$", card.text, re.MULTILINE)
    return found[1] if found else ""


def section_of(card: "ModelCard", title: str) -> str:
    """Return the text of a section of a card; empty if it has none."""
    for heading, text in _sections(card.text):
        if heading == f"## {title}":
            return text.strip()
    return ""


def set_results(folder: Path, text: str, results: "Sequence[EvalResult]", *, name: str) -> None:
    """Replace the results of a card of ours, in its text and in its ``model-index``; others are left alone.

    Args:
        folder: The model folder.
        text: The section ``Results``, in Markdown without headings of the first or second level.
        results: The scores.
        name: The model's name in the ``model-index``.
    """
    card = read_card(folder)
    if card is None or not is_ours(card):
        return
    card.text = _with_section(card, "Results", text)
    data = data_of(card)
    data.model_name, data.eval_results = name, list(results)
    _write(card, folder)


def set_license(card: "ModelCard", license: str) -> None:
    """Set the licence of a card, in its metadata and its text."""
    data_of(card).license = license
    card.text = _with_section(card, "Licence", f"The licence is {license}.")


def for_hub(card: "ModelCard", name: str, repo: str) -> str:
    """Return the text of a card whose snippets open the model by its name on the Hub.

    Args:
        card: The card of the folder.
        name: The name of the folder.
        repo: The repository, ``owner/name``.
    """

    def renamed(block: re.Match[str]) -> str:
        code = block[0].replace(f'Path("{name}")', f'Path(snapshot_download("{repo}"))')
        if code != block[0]:
            return code.replace(
                "import onnxruntime\n", "import onnxruntime\nfrom huggingface_hub import snapshot_download\n"
            )
        return code.replace(f'"{name}"', f'"{repo}"')

    return re.sub(r"^```(?:python|bash)\n.*?^```$", renamed, str(card), flags=re.DOTALL | re.MULTILINE)


def _with_section(card: "ModelCard", title: str, text: str) -> str:
    """Return a card's text with a different text in one of its sections."""
    parts = []
    for heading, content in _sections(card.text):
        content = f"\n{text.strip()}\n\n" if heading == f"## {title}" else content
        parts.append(f"{heading}\n{content}" if heading else content)
    return "".join(parts)


def _write(card: "ModelCard", folder: Path) -> None:
    """Write a card completely or not at all; one that would not change is left alone."""
    path = folder / CARD_FILE
    if path.is_file() and path.read_bytes() == str(card).encode("utf-8"):
        return
    temporary = folder / f".{CARD_FILE}.{os.getpid()}.tmp"
    temporary.write_text(str(card), encoding="utf-8")
    temporary.replace(path)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Split a card at its headings of the second level, each with the text below it; the first has no heading."""
    heading, inside = "", False
    lines: list[str] = []
    for line in text.lstrip("\n").splitlines(keepends=True):
        inside ^= line.startswith("```")
        if line.startswith("## ") and not inside:
            yield heading, "".join(lines)
            heading, lines = line.rstrip("\n"), []
        else:
            lines.append(line)
    yield heading, "".join(lines)
