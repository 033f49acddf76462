"""``python -m train mine`` and ``python -m train teach``: files of tuples, made in front of a training."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiment.collections import check_source, open_collection
from experiment.collections.sources import DEFAULT_CACHE
from experiment.config.load import load_config
from experiment.console.progress import Progress
from projheads.errors import ProjheadsError
from train.data.tuples_file import read_about, read_tuples

__all__ = ["main_mine", "main_teach"]


def main_mine(arguments: Sequence[str]) -> None:
    """Mine hard negatives.

    Raises:
        ProjheadsError: If the collection, an option or the output cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m train mine",
        description="Write each training pair of a collection with hard negatives by BM25, never a judged positive.",
    )
    parser.add_argument("config", type=Path, nargs="?", help="an experiment's YAML, whose train.data.source is mined")
    parser.add_argument("--source", help="the collection, instead of a YAML")
    parser.add_argument("--split", default="train", help="the collection's split (default: train)")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder of what is downloaded or made")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the JSONL file that is written")
    parser.add_argument("--negatives", type=int, default=7, help="negatives of each pair (default: 7)")
    parser.add_argument("--from-rank", type=int, default=1, help="first BM25 rank that is taken (default: 1)")
    parser.add_argument("--to-rank", type=int, default=100, help="last BM25 rank that is taken (default: 100)")
    parser.add_argument("--dry-run", action="store_true", help="check everything and say what would be done")
    options = parser.parse_args(arguments)
    if (options.config is None) == (options.source is None):
        raise ProjheadsError("mine: give an experiment's YAML or --source, one of both")
    source, split, cache = options.source, options.split, options.cache
    if options.config is not None:
        config = load_config(options.config)
        source, split, cache = config.train.data.source, config.train.data.split, config.cache
    if source is None:
        raise ProjheadsError(f"{options.config}: train.data has no `source` to mine")
    if options.from_rank < 1 or not (1 <= options.negatives <= options.to_rank - options.from_rank + 1):
        raise ProjheadsError(
            f"mine: ranks {options.from_rank} to {options.to_rank} cannot give --negatives {options.negatives}"
        )
    _check_out(options.out)
    warning = check_source(source, cache=cache)
    if options.dry_run:
        print(
            f"{source} ({split}) -> {options.out}: {options.negatives} negatives a pair from BM25 ranks "
            f"{options.from_rank} to {options.to_rank}" + (f"\nwarning: {warning}" if warning else "")
        )
        return
    from train.data.mine import Mining, mine

    with Progress() as progress:
        mining = Mining(options.negatives, options.from_rank, options.to_rank)
        mine(open_collection(source, split=split, cache=cache), source, mining, options.out, progress)
        progress.say(f"{options.out}: {mining}")


def main_teach(arguments: Sequence[str]) -> None:
    """Add a teacher's scores to a file of tuples.

    Raises:
        ProjheadsError: If the file, the teacher or the output cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m train teach",
        description="Write a file of tuples again with the scores of a CrossEncoder or a bi-encoder. "
        "A command that was stopped goes on where it was.",
    )
    parser.add_argument("file", type=Path, help="a JSONL file of tuples, for instance of `python -m train mine`")
    parser.add_argument("--model", required=True, help="the teacher: a folder or a hub name")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the JSONL file that is written")
    parser.add_argument("--source", help="the collection that ids are of (default: the one the file was mined from)")
    parser.add_argument("--split", help="its split (default: that of the file, or train)")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder of what is downloaded or made")
    parser.add_argument("--batch-size", type=int, default=32, help="texts that the teacher reads at once (default: 32)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<n> or mps (default: auto)")
    parser.add_argument("--dry-run", action="store_true", help="check everything and say what would be done")
    options = parser.parse_args(arguments)
    if options.batch_size < 1:
        raise ProjheadsError(f"teach: --batch-size {options.batch_size} is no number of texts; take 1 or more")
    _check_out(options.out)
    from train.data.teacher import kind_of_teacher, open_teacher

    kind, _ = kind_of_teacher(options.model)
    about = read_about(options.file)
    source, split = options.source or about.get("source"), options.split or about.get("split", "train")
    collection = open_collection(source, split=split, cache=options.cache) if source else None
    tuples = read_tuples(options.file, n_ways=None, collection=collection)
    if options.dry_run:
        print(
            f"{options.file} -> {options.out}: {len(tuples.rows)} tuples of {tuples.rows.shape[1] - 1} documents, "
            f"{len(tuples.queries)} queries and {len(tuples.documents)} documents, by the {kind} {options.model}"
        )
        return
    from train.data.teach import teach

    with Progress() as progress:
        teacher = open_teacher(options.model, device=options.device, batch_size=options.batch_size)
        progress.say(f"{options.out}: {teach(tuples, options.file, teacher, options.out, progress)}")


def _check_out(path: Path) -> None:
    if path.suffix != ".jsonl":
        raise ProjheadsError(f"--out {path}: a file of tuples ends in .jsonl")
