"""Generates a page for each registered head, and the table of all heads."""

from text import described, inline, prose, table

from projheads.build import build_head
from projheads.cost import head_cost
from projheads.presets import list_presets, preset
from projheads.registry import head_class, head_doc, head_options, list_heads
from projheads.spec import to_text

__all__ = ["head_pages"]

_WIDTHS = [(768, 128), (384, 128)]


def head_pages() -> dict[str, str]:
    """Return path -> Markdown."""
    return {"heads/index.md": _index(), **{f"heads/{name}.md": _page(name) for name in list_heads()}}


def _index() -> str:
    heads = [[f"[`{name}`]({name}.md)", f"`{_formula(name)}`", _folding(name)] for name in list_heads()]
    presets = [
        [f"`{name}`", f"`{inline(str(preset(name).spec))}`", inline(preset(name).source)] for name in list_presets()
    ]
    return "\n\n".join(
        [
            "# Heads",
            "A head maps each token state of the backbone independently: (..., in_features) -> (..., out_features). "
            "The hosts normalise its output, and MaxSim compares the normalised vectors. This page and the page of "
            "each head are generated from the registry.",
            table(["head", "formula", "folds into one matrix (with default options)"], heads),
            "A head is written as a spec, `name(option=value, ...)`, for example "
            '`ffn(depth=3, activation="gelu")`. The same text labels it in YAML, model folders, tables and plots.',
            "## Presets",
            "Presets are short names for known heads.",
            table(["preset", "spec", "source"], presets),
            "## What does not fold",
            "A linear head of any depth is equivalent to one matrix at inference, and [`fold`](../guides/fold.md) "
            "converts it with the same embeddings. A head with an activation or a gate does not fold.",
        ]
    )


def _page(name: str) -> str:
    doc = head_doc(name)
    rest, _, expected = "\n".join(doc.splitlines()[1:]).strip().partition("What to expect: ")
    cls = head_class(name)
    said = described(cls)
    options = [
        [
            f"`{option.name}`",
            inline(option.kind),
            f"`{inline(to_text(option.default))}`",
            inline(said.get(option.name, "")),
        ]
        for option in head_options(name).values()
    ]
    example = build_head(name, 768, 128)
    parts = [
        f"# {name}",
        f"```text\n{_formula(name)}\n```",
        prose(rest),
        prose(cls.__doc__ or ""),
        f"## What to expect\n\n{prose(expected[:1].upper() + expected[1:])}" if expected else "",
        "## Options",
        table(["option", "type", "default", "description"], options) if options else "None.",
        "## Cost",
        "Parameters and matrix-product multiply-adds per token; in parentheses, the ratio to `linear`.",
        table(["head", "widths", "parameters", "multiply-adds per token", "folds"], _cost_rows(name)),
        "## Modules",
        f"With default options, 768 -> 128:\n\n```text\n{example}\n```",
        f"Source: `{cls.__module__.replace('.', '/')}.py`. On the command line: `python -m projheads show {name}`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cost_rows(name: str) -> list[list[str]]:
    labels = [name, *(label for label in list_presets() if preset(label).spec.name == name)]
    rows = []
    for label in labels:
        for in_features, out_features in _WIDTHS:
            cost = head_cost(build_head(label, in_features, out_features))
            linear = in_features * out_features
            rows.append(
                [
                    f"`{label}`",
                    f"{in_features} -> {out_features}",
                    f"{cost.parameters:,} ({cost.parameters / linear:.1f}x)",
                    f"{cost.multiply_adds:,} ({cost.multiply_adds / linear:.1f}x)",
                    "yes" if cost.folds else f"no: {inline(str(cost.why_not))}",
                ]
            )
    return rows


def _formula(name: str) -> str:
    doc = head_doc(name).splitlines()[0]
    return doc.removeprefix(f"{name}: ").rstrip(".")


def _folding(name: str) -> str:
    cost = head_cost(build_head(name, 768, 128))
    return "yes" if cost.folds else f"no: {inline(str(cost.why_not))}"
