"""``python -m eval``: evaluate an experiment or any model, write its leaderboard, or score a run file."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiment.console.command import add_json, add_version, prepare_process, print_result, run_command
from experiment.executors.options import add_executor_options, open_executor
from projheads.errors import ProjheadsError

if TYPE_CHECKING:
    from experiment.config import ExperimentConfig

__all__ = ["command_parser", "main", "write_experiment_report"]

DESCRIPTION = """Evaluate models and compare them.

python -m eval CONFIG [key=value ...]    is short for python -m eval experiment CONFIG
python -m eval --model MODEL ...         is short for python -m eval models --model MODEL"""


@dataclass(frozen=True)
class Command:
    """A command: what it does in a few words and in sentences, its arguments, and the function that runs it.

    The function prints what people read, and returns the result as a JSON value.
    """

    summary: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Any]


def main(arguments: Sequence[str]) -> int | None:
    """Run the command that the arguments name; a command imports only what it needs.

    Returns:
        The exit code; None for 0.

    Raises:
        ProjheadsError: If the configuration, a file or the data cannot be used.
    """
    if not arguments:
        command_parser().print_help(sys.stderr)
        return 2
    if arguments[0] not in (*COMMANDS, "-h", "--help", "--version"):
        models = any(argument.partition("=")[0] == "--model" for argument in arguments)
        arguments = ["models" if models else "experiment", *arguments]
    known = command_parser()
    # argparse stops collecting settings at the first option; those after it are in the rest.
    options, rest = known.parse_known_args(arguments)
    if any(word.startswith("-") or "settings" not in options for word in rest):
        known.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.settings += rest
    print_result(lambda: options.run(options), as_json=options.json)
    return None


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m eval", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_version(made)
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.summary, description=command.description)
        command.add_arguments(one)
        add_json(one)
        one.set_defaults(run=command.run)
    return made


def _add_experiment(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", type=Path, metavar="CONFIG", help="the experiment's YAML, or its folder")
    command.add_argument("--dry-run", action="store_true", help="check everything and print what would be done")
    command.add_argument(
        "--verify", action="store_true", help="check that models, cache and results are undamaged, and do nothing else"
    )
    add_executor_options(command)
    _add_shared(command)


def _experiment(options: argparse.Namespace) -> Any:
    from eval.dry_run import print_dry_run
    from eval.evaluate import evaluate_experiment
    from eval.rounds import update_rounds
    from eval.verify import verify_experiment, verify_given_models
    from experiment.config.load import load_config, override_heads, read_given_models
    from experiment.console.progress import Progress
    from projheads.registry import import_head_file

    path = options.config
    if options.verify and (path / "evaluation.yaml").exists():
        for file in options.heads:
            import_head_file(file)
        with Progress() as progress:
            verify_given_models(read_given_models(path), progress)
        return {"verified": str(path)}
    settings = [*override_heads(options.heads), *options.settings]
    config = _config_of(path, options.heads, settings) if path.is_dir() else load_config(path, settings)
    if options.dry_run:
        return print_dry_run(config)
    if options.verify:
        with Progress() as progress:
            verify_experiment(config, progress)
        return {"verified": str(config.output)}
    with open_executor(options) as executor, Progress() as progress:
        evaluate_experiment(config, progress, executor)
    if config.question is not None:
        update_rounds(config)
    return write_experiment_report(config.output)


def _config_of(folder: Path, heads: Sequence[Path] = (), settings: Sequence[str] = ()) -> "ExperimentConfig":
    """Read the configuration of an experiment's folder, which may have been moved since it was written."""
    from experiment.config.load import load_config, read_resolved

    read_resolved(folder, heads)
    return load_config(folder / "experiment.yaml", [f"output={json.dumps(str(folder))}", *settings])


def _add_models(command: argparse.ArgumentParser) -> None:
    named = "a folder, a hub name, or NAME@REVISION with a commit, branch or tag; may be repeated"
    command.add_argument("--model", action="append", required=True, help=named)
    command.add_argument(
        "--trust-remote-code",
        action="append",
        metavar="MODEL",
        help="let code that comes with this model run; may be repeated",
    )
    command.add_argument(
        "--datasets",
        action="append",
        required=True,
        metavar="DATASET",
        help="as in a configuration, or suite:beir or suite:nanobeir; may be repeated",
    )
    command.add_argument(
        "--measures",
        action="append",
        metavar="MEASURE",
        help="an ir-measures expression; may be repeated, and verdicts are about the first",
    )
    command.add_argument("--index", help="auto, exact or a FAISS factory string")
    command.add_argument("--split", help="split of all datasets (default: the one on which models are compared)")
    command.add_argument("--host", help="the host that opens the models (default: the one that wrote each)")
    command.add_argument("--output", help="folder of the results (default: outputs/models)")
    _add_shared(command)


def _models(options: argparse.Namespace) -> Any:
    from eval.given_models import evaluate_given_models
    from eval.report.model_table import print_models
    from eval.report.results import InconclusiveError
    from experiment.config.load import given_models_config
    from experiment.console.progress import Progress
    from projheads.registry import import_head_file

    for word in options.settings:
        if "=" not in word:
            raise ProjheadsError(f"{word}: not of the form key=value; repeat an option for each of its values")
    for file in options.heads:
        import_head_file(file)
    sources = [{"source": name, "split": options.split} if options.split else name for name in options.datasets]
    evaluation = {"datasets": sources, "references": [], "measures": options.measures, "index": options.index}
    values = {
        "models": options.model,
        "trust_remote_code": options.trust_remote_code,
        "output": options.output,
        "host": options.host,
        "eval": _given(evaluation),
    }
    config = given_models_config(_given(values), options.settings)
    with Progress() as progress:
        evaluate_given_models(config, progress)
    try:
        means = print_models(config.output)
    except InconclusiveError as error:
        print(f"no leaderboard: {error}")
        return {"no_leaderboard": str(error)}
    board = _write_report(config.output) if len(config.models) > 1 else None
    return {"output": str(config.output), "means": means, "leaderboard": board}


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _add_shared(command: argparse.ArgumentParser) -> None:
    """Add what both evaluations share."""
    command.add_argument("settings", nargs="*", metavar="key=value", help="such as eval.depth=1000 or device=cpu")
    command.add_argument(
        "--heads",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a Python file that registers heads; may be repeated",
    )


def _add_folder(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, metavar="FOLDER", help="the experiment's folder, such as outputs/my")


def _report(options: argparse.Namespace) -> Any:
    return write_experiment_report(options.folder)


def write_experiment_report(folder: Path) -> Any:
    """Write the report of an experiment with trained trials and print it; reading its verdicts is a look.

    Returns:
        The content of leaderboard.json, or why there is none at ``no_leaderboard``.
    """
    from eval.look_history import note_look

    note_look(folder)
    return _write_report(folder)


def _write_report(folder: Path) -> Any:
    """Write a report and print it; if nothing can be concluded, say why."""
    from rich.console import Console

    from eval.report.results import InconclusiveError
    from eval.report.write import write_report

    try:
        return _board(write_report(folder, Console()))
    except InconclusiveError as error:
        print(f"no leaderboard: {error}")
        return {"no_leaderboard": str(error)}


def _board(page: Path) -> Any:
    return json.loads((page.parent / "leaderboard.json").read_text(encoding="utf-8"))


def _plan(options: argparse.Namespace) -> Any:
    from eval.report.plan import plan_value, print_plan

    print_plan(options.folder)
    # Imported here because it loads torch, which the table does not need.
    from eval.dry_run import print_sizes_of

    try:
        sizes = print_sizes_of(_config_of(options.folder))
    except ProjheadsError as error:
        print(f"\nwhat evaluating it takes is unknown: {error}")
        sizes = {}
    return {**plan_value(options.folder), "sizes": sizes}


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} must be positive")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return number


def _add_sizes(command: argparse.ArgumentParser) -> None:
    more = "parameters of the backbone (default: 22.7e6, MiniLM)"
    command.add_argument("--parameters", type=_positive, default=22.7e6, help=more)
    tables = "those of them in embedding tables (default: 11.9e6)"
    command.add_argument("--embedding", type=_positive, default=11.9e6, help=tables)
    command.add_argument("--layers", type=_count, default=6, help="layers of the backbone (default: 6)")
    command.add_argument("--width", type=_count, default=384, help="width of a token state (default: 384)")
    command.add_argument("--out-features", type=_count, default=128, help="width of a token embedding (default: 128)")
    command.add_argument("--heads", type=_count, default=7, help="how many heads are evaluated (default: 7)")
    longest = "tokens of a document at most (default: 180)"
    command.add_argument("--document-length", type=_count, default=180, help=longest)
    command.add_argument("--trained", action="store_true", help="each model has its own backbone")
    command.add_argument(
        "--speed", type=_positive, default=4e14, help="floating-point operations per second of a worker (default: 4e14)"
    )
    command.add_argument("--workers", type=_count, default=8, help="how many such workers (default: 8)")


def _sizes(options: argparse.Namespace) -> Any:
    from eval.on_paper import evaluation_on_paper
    from eval.report.paper_table import print_sizes, sizes_value

    if options.embedding >= options.parameters:
        raise ProjheadsError(
            f"--embedding: {options.embedding:g} must be less than --parameters {options.parameters:g}"
        )
    evaluation = evaluation_on_paper(
        parameters=options.parameters,
        embedding=options.embedding,
        layers=options.layers,
        width=options.width,
        out_features=options.out_features,
        heads=options.heads,
        document_length=options.document_length,
        trained=options.trained,
    )
    print_sizes(evaluation, speed=options.speed, workers=options.workers)
    return sizes_value(evaluation, speed=options.speed, workers=options.workers)


def _add_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="such as outputs/my outputs/other, or results of other programs: a TREC or ranx run or an mteb result "
        "named after its dataset, or a folder of them for one model",
    )
    command.add_argument("--output", type=Path, help="folder of the leaderboard (default: outputs/compare/<names>)")


def _compare(options: argparse.Namespace) -> Any:
    from rich.console import Console

    from eval.foreign import is_foreign, load_foreign
    from eval.report.reading import load_experiment
    from eval.report.write import compare

    names = "-".join(folder.resolve().name for folder in options.folders)
    target = options.output or Path("outputs/compare") / names
    foreign = [path for path in options.folders if is_foreign(path)]
    folders = [path for path in options.folders if path not in foreign]
    if not folders:
        raise ProjheadsError("compare: list at least one folder of an experiment, whose judgements score the runs")
    others = []
    if foreign:
        first = load_experiment(folders[0])
        others = [load_foreign(path, first) for path in foreign]
    return _board(compare(folders, target, Console(), others))


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, metavar="FOLDER", help="the experiment's folder, such as outputs/my")
    command.add_argument("--to", required=True, metavar="FORMAT", help="mteb (its result cache) or ranx (its runs)")
    command.add_argument("--output", type=Path, help="the folder to write (default: FOLDER/export/FORMAT)")


def _export(options: argparse.Namespace) -> Any:
    from eval.export import export_results

    target = options.output or options.folder / "export" / options.to
    written = export_results(options.folder, target, options.to)
    print(f"{target}: {len(written)} files written")
    return {"output": str(target), "files": list(map(str, written))}


def _add_agree(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, metavar="FOLDER", help="the experiment's folder, such as outputs/my")
    for side in ("small", "large"):
        about = f"datasets of the {side} suite, or suite:<name>"
        command.add_argument(f"--{side}", nargs="+", required=True, metavar="DATASET", help=about)


def _agree(options: argparse.Namespace) -> Any:
    import dataclasses

    from eval.report.agreement import agreement_value, describe_agreement

    found = agreement_value(options.folder, options.small, options.large)
    print("\n".join(describe_agreement(found)))
    return dataclasses.asdict(found)


def _add_score(command: argparse.ArgumentParser) -> None:
    command.add_argument("run_file", type=Path, metavar="RUN", help="a TREC run file with six columns")
    command.add_argument("qrels", type=Path, metavar="QRELS", help="judgements, in TREC's four columns or BEIR's three")
    command.add_argument(
        "--measures",
        action="extend",
        nargs="+",
        metavar="MEASURE",
        help="ir-measures expressions (default: nDCG@10 R@100 RR@10); may be repeated",
    )


def _score(options: argparse.Namespace) -> Any:
    from eval.score import score_lines, score_run

    scored = score_run(options.run_file, options.qrels, options.measures or ["nDCG@10", "R@100", "RR@10"])
    print("\n".join(score_lines(scored)))
    return scored


COMMANDS = {
    "experiment": Command(
        "evaluate the trials of an experiment",
        "Evaluate the finished trials and the reference rows of an experiment, and write its leaderboard. Finished "
        "evaluations are not repeated.",
        _add_experiment,
        _experiment,
    ),
    "models": Command(
        "evaluate any multi-vector models",
        "Evaluate multi-vector models of PyLate or sentence-transformers, each with its own encoding settings, and "
        "compare them query by query. Finished evaluations are not repeated.",
        _add_models,
        _models,
    ),
    "report": Command(
        "write the leaderboard of an experiment",
        "Write and print the leaderboard of an experiment from its result files.",
        _add_folder,
        _report,
    ),
    "plan": Command(
        "estimate how large an experiment needs to be",
        "Print how many seeds and queries would detect a difference, given the variance of an experiment's trials, and "
        "the disk, memory and time that evaluating it takes.",
        _add_folder,
        _plan,
    ),
    "sizes": Command(
        "say what BEIR and MS MARCO take",
        "Print what evaluating BEIR and both MS MARCO passage collections takes, on paper: disk, memory, operations "
        "and hours, stored and streamed, from published sizes and a stated speed.",
        _add_sizes,
        _sizes,
    ),
    "agree": Command(
        "compare a small suite with a large one",
        "Print how far a small suite, such as NanoBEIR, ranks the variants of an experiment as a large one does: "
        "Kendall's tau with its 95% interval over queries and seeds.",
        _add_agree,
        _agree,
    ),
    "export": Command(
        "write the results for mteb or ranx",
        "Write the results of an experiment in the format of a different program. TREC runs are already there, in the "
        "folders eval/ of the trials.",
        _add_export,
        _export,
    ),
    "compare": Command(
        "write one leaderboard of several experiments",
        "Write and print one leaderboard of several experiments, of folders that python -m eval --model wrote, and of "
        "results of other programs. The baseline of the first experiment is the baseline for all.",
        _add_compare,
        _compare,
    ),
    "score": Command("score a run file", "Score any TREC run file.", _add_score, _score),
}

if __name__ == "__main__":
    prepare_process()
    sys.exit(run_command(main, sys.argv[1:]))
