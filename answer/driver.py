"""Alternates training and evaluation until an experiment's question is answered."""

import argparse
import math
import os
from collections import Counter
from typing import Any

from eval.__main__ import write_experiment_report
from eval.dry_run import print_dry_run
from eval.evaluate import evaluate_experiment
from eval.look_history import survivors
from eval.report.reading import load_experiment
from eval.rounds import update_rounds
from eval.verdicts import smallest_equivalence
from experiment.collections import open_collection
from experiment.config import ExperimentConfig
from experiment.config.load import load_config, override_heads
from experiment.console.progress import Progress
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import RoundsRecord
from experiment.executors.options import open_executor
from experiment.executors.protocol import Executor
from projheads.errors import ProjheadsError
from train.commands import print_plan, say_opening
from train.experiment import train_experiment
from train.trackers import check_trackers

__all__ = ["answer_command", "answer_experiment", "confirming_experiment"]

HEAD_BY_QUERY = 0.0468
"""Standard deviation of what is peculiar to a head and a query in nDCG@10, fitted to trials of the quickstart."""


def answer_command(options: argparse.Namespace) -> dict[str, Any]:
    """Answer an experiment's question, once its configuration is checked.

    Returns:
        The leaderboards, that of the experiment first, and the names of the trials that failed.

    Raises:
        ProjheadsError: If the configuration, the data or the output folder cannot be used.
    """
    config = load_config(options.config, [*override_heads(options.heads), *options.overrides])
    check_trackers(config.train.trackers)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ProjheadsError("python -m answer is one process; under a launcher use python -m train, then eval")
    if options.dry_run:
        return {**print_plan(config, options.config), "evaluations": print_dry_run(config)}
    say_opening(config)
    with open_executor(options) as executor:
        failed = answer_experiment(config, executor)
        boards = [write_experiment_report(config.output)]
        confirming = confirming_experiment(config)
        if confirming is not None:
            failed += answer_experiment(confirming, executor)
            boards.append(write_experiment_report(confirming.output))
    return {"leaderboards": boards, "failed": failed}


def answer_experiment(config: ExperimentConfig, executor: Executor) -> list[str]:
    """Train and evaluate, with a question until each variant is decided.

    Returns:
        The names of the trials that failed.

    Raises:
        ProjheadsError: If the data, the backbone or the output folder cannot be used.
    """
    if config.question is not None and config.question.queries == "new":
        with Progress() as progress:
            _warn_of_few_queries(config, config.question.resolution, progress)
    while True:
        failed = train_experiment(config, executor)
        with Progress() as progress:
            evaluate_experiment(config, progress, executor)
            if config.question is None:
                return failed
            rounds = update_rounds(config)
            if rounds is None:
                raise ProjheadsError(f"{config.output}: trials of this round are missing; rerun the same command")
            progress.say(_describe(config, rounds))
        if rounds.done:
            return failed


def confirming_experiment(config: ExperimentConfig) -> ExperimentConfig | None:
    """Return the experiment that compares the winner of a race with the baseline on seeds that did not choose it.

    Returns:
        None without a race, or if the baseline won it.
    """
    rounds = RoundsRecord.find(ExperimentFolder(config.output).rounds_json)
    if config.question is None or not config.question.race or rounds is None or not rounds.looks:
        return None
    winner, baseline = survivors(rounds, load_experiment(config.output))[0], str(config.heads.baseline)
    if winner == baseline:
        return None
    values = config.model_dump(mode="json")
    values["heads"] |= {"variants": [baseline, winner], "grids": []}
    most = config.question.seeds[1]
    output = str(ExperimentFolder(config.output).confirming)
    confirming = {**values, "output": output, "question": None, "seeds": list(range(most, 2 * most))}
    return ExperimentConfig.model_validate(confirming)


def _warn_of_few_queries(config: ExperimentConfig, resolution: float, progress: Progress) -> None:
    """Say before the first trial if the queries are too few to show equivalence at the resolution."""
    datasets = config.eval.datasets
    judged = [len(open_collection(one.source, split=one.split, cache=config.cache).qrels) for one in datasets]
    query_part = sum(2 * HEAD_BY_QUERY**2 / count for count in judged) / len(judged) ** 2
    floor = 100 * smallest_equivalence(query_part, max(1, len(config.heads.variants) - 1))
    if floor > resolution:
        progress.say(
            f"question: {sum(judged)} judged queries can show equivalence for new queries within about {floor:.1f} "
            f"points at best, whatever the number of seeds; question.resolution={resolution:g} needs about "
            f"{math.ceil(sum(judged) * (floor / resolution) ** 2)} queries, or use question.queries=these"
        )


def _describe(config: ExperimentConfig, rounds: RoundsRecord) -> str:
    """Say in one line what a look decided and what is next."""
    states = rounds.looks[-1].states if rounds.looks else {}
    counts = Counter(state.state for state in states.values())
    decided = ", ".join(f"{count} {word}" for word, count in counts.items()) or "no verdict yet"
    most = max(rounds.next.values())
    if config.question is not None and config.question.race:
        baseline = str(config.heads.baseline)
        others = [seeds for row, seeds in rounds.next.items() if row != baseline]
        racing = f"heads left in the race besides {baseline}: {others.count(max(others))} of {len(others)}"
        decided = "the race is over" if rounds.done else racing
    return f"look {len(rounds.looks)}: {decided}; {'done with' if rounds.done else 'next:'} up to {most} seeds"
