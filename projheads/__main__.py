"""``projheads`` and ``python -m projheads``: heads, the models that contain them, and the programs of a checkout."""

import argparse
import dataclasses
import json
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from projheads import __version__
from projheads.build import build_head
from projheads.card import CARD_FILE
from projheads.cost import head_cost, head_warnings
from projheads.errors import ProjheadsError, describe_os_error
from projheads.export import FORMATS, Exported, export_model, fold_model, read_texts, soup_models, swap_model
from projheads.hosts.base import OpenOptions
from projheads.init import find_init, list_inits
from projheads.listing import Block, Table, print_blocks
from projheads.presets import list_presets, preset, resolve_preset
from projheads.push import plan_push, push
from projheads.registry import broken_plugins, head_doc, head_options, import_head_file, list_heads
from projheads.spec import to_text
from projheads.testing import check_head

PROGRAMS = ("train", "eval", "answer")
"""Packages of a checkout, which the wheel does not contain."""

ALIASES = {"heads": "list"}

_Run: TypeAlias = Callable[[argparse.Namespace], tuple[Any, list[Block]]]


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0, or 2 after a one-line message about a user error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        command_parser().print_help(sys.stderr)
        return 2
    options = command_parser().parse_args([ALIASES.get(arguments[0], arguments[0]), *arguments[1:]])
    try:
        for file in options.heads:
            import_head_file(file)
        result, blocks = options.run(options)
    except ProjheadsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno is None:  # raised by a library, not by the operating system
            raise
        print(f"error: {describe_os_error(error)}", file=sys.stderr)
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


def command() -> int:
    """Run the console script ``projheads``, in a checkout also ``projheads train``, ``eval`` and ``answer``."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in PROGRAMS:
        return main()
    checkout = Path(__file__).resolve().parents[1]
    if not (checkout / name / "__main__.py").is_file():
        print(
            f"error: projheads {name} needs a checkout of the repository, installed with pip install --editable .; "
            "the wheel contains only the library",
            file=sys.stderr,
        )
        return 2
    sys.path.insert(0, str(checkout))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(checkout), os.environ.get("PYTHONPATH")]))
    sys.argv[:2] = [f"projheads {name}"]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
    return 0


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m projheads``, with one subparser per command."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print the result as JSON")
    heads_help = "a Python file that registers heads; may be repeated"
    shared.add_argument("--heads", type=Path, action="append", default=[], metavar="FILE", help=heads_help)
    opening = argparse.ArgumentParser(add_help=False)
    opening.add_argument("--revision", help="commit, branch or tag of a model on the hub")
    opening.add_argument("--trust-remote-code", action="store_true", help="let code that comes with the model run")
    model = argparse.ArgumentParser(add_help=False, parents=[opening])
    model.add_argument("model", metavar="MODEL", help="a model folder or hub name (PyLate or sentence-transformers)")
    description = "Inspect projection heads; fold, export or replace the head of a trained ColBERT model."
    programs = (
        "In a checkout, `projheads train`, `projheads eval` and `projheads answer` are `python -m train` and so on."
    )
    parser = argparse.ArgumentParser(prog="python -m projheads", description=description, epilog=programs)
    parser.add_argument("--version", action="version", version=f"projheads {__version__}")
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
    check = add("check", _check, "run the conformance suite on heads")
    check.add_argument(
        "heads_to_check", metavar="HEAD", help="a registered head or preset, or a Python file that registers heads"
    )
    fold = add("fold", _fold, "replace the head with its cheapest equal form: one matrix, if it is linear", model)
    export = add("export", _export, "write the model in a format that opens without projheads", model)
    export.add_argument("--to", required=True, metavar="FORM", help=f"the format: {', '.join(FORMATS)}")
    swap = add("swap", _swap, "write the model with a different head", model)
    swap.add_argument("spec", metavar="SPEC", help="the new head")
    for command in (fold, export, swap):
        command.add_argument("out", type=Path, metavar="OUT", help="the folder to write; must not exist")
    does = "write the model whose head is the average of several heads, such as a variant's seeds"
    soup = add("soup", _soup, does, opening)
    soup.add_argument("models", nargs="+", metavar="MODEL", help="model folders with one backbone and one kind of head")
    soup.add_argument("out", type=Path, metavar="OUT", help="the folder to write; must not exist")
    push = add("push", _push, "send a model folder or a trial to the Hugging Face Hub, with its card and leaderboard")
    push.add_argument("folder", type=Path, metavar="FOLDER", help="a model folder or the folder of a trial")
    push.add_argument("repo", metavar="REPO", help="the repository, owner/name; created if it does not exist")
    push.add_argument("--dry-run", action="store_true", help="print what would be sent, without using the network")
    push.add_argument("--private", action="store_true", help="make a repository that is created private")
    push.add_argument("--license", metavar="ID", help="licence for the card, such as apache-2.0")
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
    for line in broken_plugins():
        print(f"warning: {line}", file=sys.stderr)
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
    wanted = options.heads_to_check
    names = import_head_file(wanted) if wanted.endswith(".py") or Path(wanted).is_file() else [wanted]
    made = {name: check_head(name) for name in names}
    return made, [f"{name}: {len(checks)} checks passed: {', '.join(checks)}" for name, checks in made.items()]


def _fold(options: argparse.Namespace) -> tuple[Any, list[Block]]:
    return _report(fold_model(options.model, options.out, _opening(options)))


def _export(options: argparse.Namespace) -> tuple[Any, list[Block]]:
    return _report(export_model(options.model, options.out, _opening(options), to=options.to))


def _swap(options: argparse.Namespace) -> tuple[Any, list[Block]]:
    texts = read_texts(options.texts) if options.texts else []
    chosen = {"init": options.init, "out_features": options.out_features, "seed": options.seed, "texts": texts}
    return _report(swap_model(options.model, options.spec, options.out, _opening(options), **chosen))


def _soup(options: argparse.Namespace) -> tuple[Any, list[Block]]:
    return _report(soup_models(options.models, options.out, _opening(options)))


def _push(options: argparse.Namespace) -> tuple[Any, list[Block]]:
    planned = plan_push(options.folder, options.repo, license=options.license)
    url = None if options.dry_run else push(planned, private=options.private)
    result = {"repo": planned.repo, "sent": url, "files": {one.path: one.bytes for one in planned.files}}
    rows = [(one.path, f"{one.bytes:,} bytes") for one in planned.files]
    card = next(one.text for one in planned.files if one.path == CARD_FILE)
    if url is None:
        return result, [Table(f"would be sent to {planned.repo}", rows), "", str(card)]
    return result, [Table(f"sent to {planned.repo}", rows), str(url)]


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
