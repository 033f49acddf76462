"""``python -m projheads list | show | check | fold | export | swap``: heads, and the models that contain them."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from projheads.build import build_head
from projheads.cost import head_cost, head_warnings
from projheads.errors import ProjheadsError
from projheads.export import FORMATS, Exported, export_model, fold_model, read_texts, swap_model
from projheads.hosts.base import OpenOptions
from projheads.init import find_init, list_inits
from projheads.listing import Block, Table, print_blocks
from projheads.presets import list_presets, preset, resolve_preset
from projheads.registry import head_doc, head_options, import_head_file, list_heads
from projheads.spec import to_text
from projheads.testing import check_head

_Run: TypeAlias = Callable[[argparse.Namespace], tuple[Any, list[Block]]]


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0, or 2 after a one-line message about a user error."""
    options = command_parser().parse_args(arguments)
    try:
        for file in options.heads:
            import_head_file(file)
        result, blocks = options.run(options)
    except ProjheadsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:  # the package installs only torch and safetensors
        advice = "it comes with a host: pip install 'projheads[pylate]'"
        print(f"error: {error.name} is not installed; {advice}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print_blocks(blocks)
    return 0


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m projheads``, with one subparser per command."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print the result as JSON")
    heads_help = "a Python file that registers heads; may be repeated"
    shared.add_argument("--heads", type=Path, action="append", default=[], metavar="FILE", help=heads_help)
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("model", metavar="MODEL", help="a model folder or hub name (PyLate or sentence-transformers)")
    model.add_argument("--revision", help="commit, branch or tag of a model on the hub")
    model.add_argument("--trust-remote-code", action="store_true", help="let code that comes with the model run")
    description = "Inspect projection heads; fold, export or replace the head of a trained ColBERT model."
    parser = argparse.ArgumentParser(prog="python -m projheads", description=description)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: _Run, does: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        description = f"{does[0].upper()}{does[1:]}."
        command = commands.add_parser(name, parents=[shared, *parents], help=does, description=description)
        command.set_defaults(run=run)
        return command

    add("list", _list, "list heads, presets and initialisations")
    show = add("show", _show, "show the options and cost of a head")
    show.add_argument("spec", metavar="SPEC", help='a head or preset, such as lateon or "ffn(depth=3)"')
    width = "width of the backbone's token states (default: %(default)s)"
    show.add_argument("--in", dest="in_features", type=int, default=768, metavar="WIDTH", help=width)
    width = "width of the token embeddings (default: %(default)s)"
    show.add_argument("--out", dest="out_features", type=int, default=128, metavar="WIDTH", help=width)
    check = add("check", _check, "run the conformance suite on the heads in a file")
    check.add_argument("file", metavar="FILE", help="a Python file that registers heads")
    fold = add("fold", _fold, "replace the head with its cheapest equal form: one matrix, if it is linear", model)
    export = add("export", _export, "write the model in a format that opens without projheads", model)
    export.add_argument("--to", required=True, metavar="FORM", help=f"the format: {', '.join(FORMATS)}")
    swap = add("swap", _swap, "write the model with a different head", model)
    swap.add_argument("spec", metavar="SPEC", help="the new head")
    for command in (fold, export, swap):
        command.add_argument("out", type=Path, metavar="OUT", help="the folder to write; must not exist")
    init = "preserve (default) keeps the embeddings; `list` shows the other initialisations"
    swap.add_argument("--init", default="preserve", help=init)
    width = "width of the new token embeddings (default: the old one); preserve makes the old outputs the first of more"
    swap.add_argument("--out-features", type=int, metavar="WIDTH", help=width)
    swap.add_argument("--seed", type=int, default=0, help="seed of the initial weights (default: %(default)s)")
    texts = "texts, one per line, for data-dependent initialisations"
    swap.add_argument("--texts", type=Path, metavar="FILE", help=texts)
    return parser


def _list(options: argparse.Namespace) -> tuple[Any, list[Block]]:
    heads = {name: head_doc(name).splitlines()[0] for name in list_heads()}
    presets = {name: preset(name) for name in list_presets()}
    inits = {name: find_init(name).doc for name in list_inits()}
    result = {
        "heads": heads,
        "presets": {name: {"spec": str(known.spec), "source": known.source} for name, known in presets.items()},
        "inits": inits,
    }
    formulas = [(name, summary.removeprefix(f"{name}: ")) for name, summary in heads.items()]
    known = [(name, str(found.spec), found.source) for name, found in presets.items()]
    return result, [Table("heads", formulas), Table("presets", known), Table("inits", list(inits.items()))]


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
        ("at inference", f"{cost.inference_multiply_adds:,} as {cost.inference_form or 'trained'}"),
        ("folds into one matrix", "yes" if cost.folds else f"no, because of {cost.why_not}"),
    ]
    blocks += ["", head_doc(resolved.name), "", Table("cost", costs), *(f"warning: {line}" for line in warnings)]
    if schema:
        known = [(option.name, to_text(option.default), option.kind) for option in schema]
        blocks += ["", Table("options (name, default, type)", known)]
    return result, blocks


def _check(options: argparse.Namespace) -> tuple[Any, list[Block]]:
    made = {name: check_head(name) for name in import_head_file(options.file)}
    return made, [f"{name}: {len(checks)} checks passed: {', '.join(checks)}" for name, checks in made.items()]


def _fold(options: argparse.Namespace) -> tuple[Any, list[Block]]:
    return _report(fold_model(options.model, options.out, _opening(options)))


def _export(options: argparse.Namespace) -> tuple[Any, list[Block]]:
    return _report(export_model(options.model, options.out, _opening(options), to=options.to))


def _swap(options: argparse.Namespace) -> tuple[Any, list[Block]]:
    texts = read_texts(options.texts) if options.texts else []
    chosen = {"init": options.init, "out_features": options.out_features, "seed": options.seed, "texts": texts}
    return _report(swap_model(options.model, options.spec, options.out, _opening(options), **chosen))


def _opening(options: argparse.Namespace) -> OpenOptions:
    return OpenOptions(options.revision, options.trust_remote_code)


def _report(made: Exported) -> tuple[Any, list[Block]]:
    before, after = made.parameters
    half = "" if made.precision == "float32" else f"; the model computes in {made.precision}"
    rows = [
        ("head", f"{made.head}, {before:,} parameters"),
        ("replaced by", f"{made.replacement}, {made.in_features} -> {made.out_features}, {after:,} parameters"),
        ("opens in", ", ".join(made.opens_in)),
        ("size", f"{made.bytes / 1e6:.1f} MB"),
    ]
    rows.insert(2, ("difference", f"at most {made.difference:.1e} per element of an embedding of norm 1{half}"))
    return dataclasses.asdict(made), [Table(f"written: {made.out}", rows)]


if __name__ == "__main__":
    sys.exit(main())
