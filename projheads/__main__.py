"""``python -m projheads list | show SPEC | check FILE``: the heads, what one costs, and whether yours conforms."""

import argparse
import dataclasses
import json
import sys
from typing import Any

from projheads.build import build_head
from projheads.cost import head_cost, head_warnings
from projheads.errors import ProjheadsError
from projheads.presets import list_presets, preset, resolve_preset
from projheads.registry import head_doc, head_options, import_head_file, list_heads
from projheads.spec import to_text
from projheads.testing import check_head


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 2 after one line about the user's mistake."""
    options = _parser().parse_args(arguments)
    try:
        result, text = options.run(options)
    except ProjheadsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result, indent=2) if options.json else text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m projheads", description="Projection heads for ColBERT models.")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", parents=[shared], help="list heads and presets")
    listing.set_defaults(run=_list)
    show = commands.add_parser("show", parents=[shared], help="show one head's options and cost")
    show.add_argument("spec", metavar="SPEC", help='a head or preset, such as lateon or "ffn(depth=3)"')
    show.add_argument("--in", dest="in_features", type=int, default=768, help="width of token states (default 768)")
    show.add_argument("--out", dest="out_features", type=int, default=128, help="width of embeddings (default 128)")
    show.set_defaults(run=_show)
    check = commands.add_parser("check", parents=[shared], help="run the conformance suite on the heads of a file")
    check.add_argument("file", metavar="FILE", help="a Python file that registers heads")
    check.set_defaults(run=_check)
    return parser


def _list(options: argparse.Namespace) -> tuple[Any, str]:
    heads = {name: head_doc(name).splitlines()[0] for name in list_heads()}
    presets = {name: preset(name) for name in list_presets()}
    result = {
        "heads": heads,
        "presets": {name: {"spec": str(known.spec), "source": known.source} for name, known in presets.items()},
    }
    lines = ["heads", *(f"  {summary}" for summary in heads.values()), "presets"]
    lines += [f"  {name}: {known.spec}\n      {known.source}" for name, known in presets.items()]
    return result, "\n".join(lines)


def _show(options: argparse.Namespace) -> tuple[Any, str]:
    head = build_head(options.spec, options.in_features, options.out_features)
    resolved = resolve_preset(head.spec)
    cost, warnings = head_cost(head), head_warnings(head)
    schema = head_options(resolved.name).values()
    result = {
        "spec": str(head.spec),
        "resolved": str(resolved),
        "doc": head_doc(resolved.name),
        "in_features": head.in_features,
        "out_features": head.out_features,
        "options": resolved.to_dict()["options"],
        "schema": {option.name: {"type": option.kind, "default": to_text(option.default)} for option in schema},
        **dataclasses.asdict(cost),
        "warnings": warnings,
    }
    lines = [f"{head.spec}, {head.in_features} -> {head.out_features}"]
    if resolved is not head.spec:
        lines += [f"= {resolved}", preset(head.spec.name).source]
    folding = "yes" if cost.folds else f"no, because of {cost.why_not}"
    lines += [
        "",
        head_doc(resolved.name),
        "",
        f"parameters               {cost.parameters:,}",
        f"multiply-adds per token  {cost.multiply_adds:,}",
        f"folds to one matrix      {folding}",
        *(f"warning: {line}" for line in warnings),
        "",
        "options (type; default)",
        *(f"  {option.name}: {option.kind}; {to_text(option.default)}" for option in schema),
    ]
    return result, "\n".join(lines)


def _check(options: argparse.Namespace) -> tuple[Any, str]:
    made = {name: check_head(name) for name in import_head_file(options.file)}
    return made, "\n".join(f"{name}: {len(checks)} checks passed: {', '.join(checks)}" for name, checks in made.items())


if __name__ == "__main__":
    sys.exit(main())
