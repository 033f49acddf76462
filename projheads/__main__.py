"""``python -m projheads list | show | check | fold | export | swap``: the heads, and checkpoints that hold them."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from projheads.build import build_head
from projheads.cost import head_cost, head_warnings
from projheads.errors import ProjheadsError
from projheads.export import FORMATS, Exported, export_model, fold_model, read_texts, swap_model
from projheads.hosts.base import OpenOptions
from projheads.init import list_inits
from projheads.presets import list_presets, preset, resolve_preset
from projheads.registry import head_doc, head_options, import_head_file, list_heads
from projheads.spec import to_text
from projheads.terminal import Block, Table, print_blocks
from projheads.testing import check_head


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 2 after one line about the user's mistake."""
    options = _parser().parse_args(arguments)
    try:
        for file in options.heads:
            import_head_file(file)
        result, blocks = options.run(options)
    except ProjheadsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:  # torch and safetensors are all that the package itself brings
        print(f"error: this needs {error.name}; a host brings it: pip install 'projheads[pylate]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was left behind", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print_blocks(blocks)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m projheads", description="Projection heads for ColBERT models.")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print JSON")
    shared.add_argument(
        "--heads", type=Path, action="append", default=[], metavar="FILE", help="a Python file that registers heads"
    )
    models = argparse.ArgumentParser(add_help=False)
    models.add_argument("model", metavar="MODEL", help="a model of PyLate or sentence-transformers: folder or hub name")
    models.add_argument("--revision", help="commit, branch or tag of a model on the hub")
    models.add_argument("--trust-remote-code", action="store_true", help="let code that comes with the model run")
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
    fold = commands.add_parser("fold", parents=[shared, models], help="write a stock model with a single matrix")
    fold.add_argument("out", type=Path, metavar="OUT", help="the folder to write; it must not exist")
    fold.set_defaults(run=_fold)
    export = commands.add_parser("export", parents=[shared, models], help="write a model in a different form")
    export.add_argument("out", type=Path, metavar="OUT", help="the folder to write; it must not exist")
    export.add_argument("--to", required=True, metavar="FORM", help=f"one of {', '.join(FORMATS)}")
    export.set_defaults(run=_export)
    swap = commands.add_parser("swap", parents=[shared, models], help="write a model with a different head")
    swap.add_argument("spec", metavar="SPEC", help="the new head")
    swap.add_argument("out", type=Path, metavar="OUT", help="the folder to write; it must not exist")
    swap.add_argument(
        "--init", default="preserve", help="preserve (default): the embeddings stay; or another of `list`"
    )
    swap.add_argument("--seed", type=int, default=0, help="what first weights are drawn from (default 0)")
    swap.add_argument("--texts", type=Path, metavar="FILE", help="texts, one a line, for an init that looks at data")
    swap.set_defaults(run=_swap)
    return parser


def _list(options: argparse.Namespace) -> tuple[Any, list[Block]]:
    heads = {name: head_doc(name).splitlines()[0] for name in list_heads()}
    presets = {name: preset(name) for name in list_presets()}
    result = {
        "heads": heads,
        "presets": {name: {"spec": str(known.spec), "source": known.source} for name, known in presets.items()},
        "inits": list_inits(),
    }
    formulas = [(name, summary.removeprefix(f"{name}: ")) for name, summary in heads.items()]
    known = [(name, str(found.spec), found.source) for name, found in presets.items()]
    return result, [Table("heads", formulas), Table("presets", known), f"inits: {', '.join(list_inits())}"]


def _show(options: argparse.Namespace) -> tuple[Any, list[Block]]:
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
    blocks: list[Block] = [f"{head.spec}, {head.in_features} -> {head.out_features}"]
    if resolved is not head.spec:
        blocks += [f"= {resolved}", preset(head.spec.name).source]
    costs = [
        ("parameters", f"{cost.parameters:,}"),
        ("multiply-adds per token", f"{cost.multiply_adds:,}"),
        ("folds to one matrix", "yes" if cost.folds else f"no, because of {cost.why_not}"),
    ]
    blocks += ["", head_doc(resolved.name), "", Table("cost", costs), *(f"warning: {line}" for line in warnings)]
    if schema:
        takes = [(option.name, to_text(option.default), option.kind) for option in schema]
        blocks += ["", Table("options, their defaults and types", takes)]
    return result, blocks


def _check(options: argparse.Namespace) -> tuple[Any, list[Block]]:
    made = {name: check_head(name) for name in import_head_file(options.file)}
    return made, [f"{name}: {len(checks)} checks passed: {', '.join(checks)}" for name, checks in made.items()]


def _fold(options: argparse.Namespace) -> tuple[Any, list[Block]]:
    return _told(fold_model(options.model, options.out, _opening(options)))


def _export(options: argparse.Namespace) -> tuple[Any, list[Block]]:
    return _told(export_model(options.model, options.out, _opening(options), to=options.to))


def _swap(options: argparse.Namespace) -> tuple[Any, list[Block]]:
    texts = read_texts(options.texts) if options.texts else []
    chosen = {"init": options.init, "seed": options.seed, "texts": texts}
    return _told(swap_model(options.model, options.spec, options.out, _opening(options), **chosen))


def _opening(options: argparse.Namespace) -> OpenOptions:
    return OpenOptions(options.revision, options.trust_remote_code)


def _told(made: Exported) -> tuple[Any, list[Block]]:
    before, after = made.parameters
    rows = [
        ("head", f"{made.head}, {made.in_features} -> {made.out_features}, {before:,} parameters"),
        ("in its place", f"{made.replacement}, {after:,} parameters"),
        ("opens in", ", ".join(made.opens_in)),
        ("size", f"{made.bytes / 1e6:.1f} MB"),
    ]
    rows.insert(2, ("difference", f"at most {made.difference:.1e} in an element of an embedding of norm 1"))
    return dataclasses.asdict(made), [Table(f"written: {made.out}", rows)]


if __name__ == "__main__":
    sys.exit(main())
