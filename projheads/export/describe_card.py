"""What a model card says about a model folder, read from its files and its head."""

import importlib.util
import inspect
from collections.abc import Sequence
from pathlib import Path

from projheads.card import Card, data_of, is_ours, license_of, read_card, section_of, title_of, write_card
from projheads.cost import head_cost
from projheads.head import Head
from projheads.hosts.adapters import has_adapter
from projheads.hosts.model_folder import MODULES_FILE, OUR_PROJECTIONS, projections, written_by
from projheads.presets import resolve_preset
from projheads.registry import head_class, head_doc, head_files

__all__ = ["add_card", "add_derived_card", "hub_name"]

ONNX_FILE = "model.onnx"


def add_card(
    folder: Path,
    head: Head,
    *,
    name: str,
    title: str,
    training: Sequence[str],
    base_model: str | None = None,
    license: str | None = None,
    results: str = "",
    original: str = "",
) -> None:
    """Write the card of a model folder; without huggingface_hub, which comes with the hosts, none is written.

    Args:
        folder: The folder, which may have a temporary name.
        head: Its head.
        name: The folder's name in the snippets.
        title: The heading.
        training: How the model was made, one line per fact.
        base_model: What it was made from, if that is on the Hub.
        license: Its licence; None if unknown.
        results: The text of the section ``Results``.
        original: The card of the model that it was made from.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        return
    resolved, cost = resolve_preset(head.spec), head_cost(head)
    layout = written_by(folder)
    ours = (folder / MODULES_FILE).is_file() and any(one.type in OUR_PROJECTIONS for one in projections(folder))
    opens_in = [layout] if ours and layout else ["pylate", "sentence-transformers"]
    adapter = has_adapter(folder)
    if adapter:
        opens_in = ["projheads"]
    elif (folder / ONNX_FILE).is_file():
        opens_in = ["onnxruntime"]
    elif layout == "stanford":
        opens_in.append("colbert-ai")
    elif layout != "pylate" and not ours:
        opens_in = ["sentence-transformers"]
    write_card(
        Card(
            title=title,
            head=str(head.spec) if resolved is head.spec else f"{head.spec} = {resolved}",
            formula=head_doc(resolved.name).splitlines()[0].removeprefix(f"{resolved.name}: "),
            size=f"{head.in_features} -> {head.out_features} features, {cost.parameters:,} parameters.",
            folds=cost.folds,
            opens_in=opens_in,
            needs_projheads=ours or adapter,
            head_files=tuple(Path(inspect.getfile(head_class(one))).name for one in head_files(head.spec)),
            training=training,
            results=results,
            original=original,
            base_model=base_model,
            license=license,
            foldable=ours or adapter or (layout in opens_in and resolved.name != "linear" and layout != "stanford"),
        ),
        folder,
        name=name,
    )


def add_derived_card(folder: Path, head: Head, model: str, source: Path, *, out: Path, form: str, made: str) -> None:
    """Write the card of a model that was made from another one, whose card it continues.

    Args:
        folder: The folder, under a temporary name.
        head: Its head.
        model: The original model, as it was given.
        source: Its folder.
        out: The folder's final name.
        form: What the title adds to the original's.
        made: How it was made, in one sentence.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        return
    card = read_card(source)
    title = f"{hub_name(model) or Path(model).resolve().name}, {form}"
    if card is None:
        add_card(folder, head, name=out.name, title=title, training=[made], base_model=hub_name(model))
        return
    ours = is_ours(card)
    base = data_of(card).base_model if ours else None
    base = base if isinstance(base, str) else None
    training = [line.removeprefix("- ") for line in section_of(card, "Training").splitlines()] if ours else []
    keeps = ours and form != "swapped"
    results = section_of(card, "Results") if keeps else ""
    add_card(
        folder,
        head,
        name=out.name,
        title=f"{title_of(card)}, {form}" if ours and title_of(card) else title,
        training=[*training, made],
        base_model=hub_name(model) or base,
        license=license_of(source),
        results=results,
        original="" if ours else card.text,
    )


def hub_name(model: str) -> str | None:
    """Return a model's name if it is one on the Hub, and None for a folder."""
    parts = model.split("/")
    on_hub = (
        len(parts) == 2 and all(parts) and not Path(model).expanduser().exists() and not model.startswith((".", "~"))
    )
    return model if on_hub else None
