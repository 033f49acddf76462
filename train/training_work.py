"""What the pending trials take to train: disk, memory, operations and time, stored and in lockstep."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from experiment.config import TrainConfig
from experiment.encoding.canonical import padding_ratio
from experiment.encoding.operations import backbone_of
from experiment.encoding.speed import TextSample, sample_texts
from experiment.encoding.threads import threads_on
from experiment.encoding.tokens import tokens_of_a_batch
from experiment.needs import Backbone, Need, process_bytes
from projheads import build_head, head_cost
from projheads.cost import HeadCost
from projheads.head import Head
from train.data.examples import TrainingData
from train.embedding.lockstep import texts_ahead
from train.lockstep import lockstep_groups
from train.optimization import count_steps
from train.preparation import Preparation
from train.step_speed import StepSpeed, measure_steps
from train.trial import Trial

__all__ = ["Training", "TrainingWork"]

FORWARD_AND_BACKWARD = 3.0
"""Work of a forward and a backward pass, in forward passes."""

OF_MAXSIM = 0.5
"""Share of MaxSim and its gradient that MaxSim takes."""

SECONDS_PER_TRIAL = 0.5
"""Time to make a head, and to save and hash its model."""

BYTES_PER_PARAMETER = 16
"""A trained parameter, its gradient and two moments."""

BYTES_PER_ACTIVATION = 16
"""A number that a head computes before and after its activation, in float32, and the gradients of both."""

BYTES_PER_LAYER = 90
"""What a layer of the backbone keeps for the backward pass, for each number of a token state: measured with MiniLM."""

BYTES_PER_TEXT = 60
"""A string in memory, besides its characters."""


@dataclass(frozen=True)
class Training:
    """What training takes by one way.

    Attributes:
        need: Disk, memory and operations.
        first_s: Seconds of what one machine does for all: the token states that are stored.
        parts_s: Seconds of each trial, or of each group of trials in lockstep.
        encode_s: Seconds of all token states on one machine.
    """

    need: Need
    first_s: float
    parts_s: Sequence[float]
    encode_s: float

    def seconds_on(self, machines: int) -> float:
        """Return how long it takes on several machines, the longest part first."""
        busy = [0.0] * machines
        for part in sorted(self.parts_s, reverse=True):
            heapq.heapreplace(busy, busy[0] + part)
        return self.first_s + max(busy)


@dataclass(frozen=True)
class _Stage:
    """One stage of the training: its texts, from a sample, and the numbers of them."""

    config: TrainConfig
    data: TrainingData
    queries: TextSample
    documents: TextSample

    def encoding(self, queries: float, documents: float) -> float:
        """Return the seconds to encode so many texts."""
        return queries * self.queries.seconds + documents * self.documents.seconds

    def tokens(self, queries: float, documents: float) -> float:
        """Return the token states of so many texts."""
        return queries * self.queries.tokens + documents * self.documents.tokens

    def similarities(self, queries: float, documents: float) -> float:
        """Return the pairs of tokens that MaxSim of so many texts compares."""
        return queries * self.queries.tokens * documents * self.documents.tokens

    @property
    def n_ways(self) -> int:
        """Documents of an example."""
        return int(self.data.examples.shape[1] - 1)

    @property
    def validated(self) -> list[tuple[int, int]]:
        """Numbers of queries and documents that a validation compares: held-out pairs, and development texts."""
        sets = zip(self.data.development_queries, self.data.development_documents, strict=True)
        held_out = len(self.data.validation)
        return [(held_out, held_out), *((len(queries), len(documents)) for queries, documents in sets)]


@dataclass(frozen=True)
class TrainingWork:
    """What pending trials take to train, from brief measurements on this machine.

    Attributes:
        prepared: What the trials share.
        pending: The trials that are not trained yet, at least one.
    """

    prepared: Preparation
    pending: Sequence[Trial]

    @cached_property
    def stages(self) -> list[_Stage]:
        """The stages of the training, with a sample of the texts of each."""
        config, model = self.prepared.config, self.prepared.model
        found = []
        for one, data in self.prepared.stages(config.train):
            sides = [
                sample_texts(model, texts, is_query=is_query, precision=config.train.precision)
                for texts, is_query in ((data.queries, True), (data.documents, False))
            ]
            found.append(_Stage(one, data, *sides))
        return found

    @cached_property
    def _heads(self) -> dict[str, Head]:
        """Each head once, by its label."""
        model, out = self.prepared.model, self.prepared.config.heads.out_features
        specs = {str(trial.spec): trial.spec for trial in self.pending}
        return {name: build_head(spec, model.in_features, out) for name, spec in specs.items()}

    @cached_property
    def _head_costs(self) -> dict[str, HeadCost]:
        """The cost of each head, by its label."""
        return {name: head_cost(head) for name, head in self._heads.items()}

    @property
    def costs(self) -> dict[str, int]:
        """Multiply-adds of each head for a token, by its label."""
        return {name: cost.multiply_adds for name, cost in self._head_costs.items()}

    @cached_property
    def _speeds(self) -> list[StepSpeed]:
        """How fast heads are trained in each stage."""
        device, heads = self.prepared.model.device, {self.costs[name]: head for name, head in self._heads.items()}
        return [measure_steps(one.config, heads, one.queries, one.documents, device) for one in self.stages]

    @cached_property
    def _backbone(self) -> Backbone:
        """What encoding takes."""
        return backbone_of(self.prepared.model)

    @property
    def _trained_share(self) -> float:
        """Share of the backbone's layers that is trained."""
        layers = self.prepared.config.train.trained_layers
        return 1.0 if layers is None else layers / max(layers, self._backbone.layers, 1)

    def _flop_of_encoding(self, stage: _Stage, queries: float, documents: float) -> float:
        """Return the operations of the backbone for so many texts."""
        return sum(
            self._backbone.flop(count * sample.tokens, sample.tokens)
            for count, sample in ((queries, stage.queries), (documents, stage.documents))
        )

    def _work(self, trial: Trial) -> tuple[float, float]:
        """Return the seconds and the operations of a trial, without token states that it shares with others."""
        cost, share = self._head_costs[str(trial.spec)].multiply_adds, self._trained_share
        seconds, flop, widths = SECONDS_PER_TRIAL, 0.0, sum(self.prepared.config.heads.widths)
        for stage, speed, (config, data) in zip(
            self.stages, self._speeds, self.prepared.stages(trial.config), strict=True
        ):
            steps = count_steps(config, len(data.examples))
            seen, compared = steps * config.examples_a_step, config.batch_size if config.loss.scope == "batch" else 1
            texts = seen, seen * stage.n_ways
            tokens, similarities = stage.tokens(*texts), widths * stage.similarities(seen, stage.n_ways) * compared
            seconds += speed.seconds(tokens, cost, similarities)
            seconds += FORWARD_AND_BACKWARD * share * stage.encoding(*texts)
            flop += 2 * (FORWARD_AND_BACKWARD * tokens * cost + similarities)
            flop += FORWARD_AND_BACKWARD * share * self._flop_of_encoding(stage, *texts)
            for held_out in stage.validated if steps else ():
                tokens, similarities = stage.tokens(*held_out), widths * stage.similarities(*held_out)
                once = speed.seconds(tokens / FORWARD_AND_BACKWARD, cost, similarities * OF_MAXSIM)
                seconds += config.validations * (once + share * stage.encoding(*held_out))
                more = 2 * (tokens * cost + similarities) + share * self._flop_of_encoding(stage, *held_out)
                flop += config.validations * more
        return seconds, flop

    def stored(self, disk: float, *, cached: bool) -> Training:
        """Return what training takes if the token states of the frozen layers are stored."""
        frozen = 0.0 if cached else 1.0 - self._trained_share
        first = frozen * sum(one.encoding(len(one.data.queries), len(one.data.documents)) for one in self.stages)
        shared = frozen * sum(
            self._flop_of_encoding(one, len(one.data.queries), len(one.data.documents)) for one in self.stages
        )
        works = [self._work(trial) for trial in self.pending]
        flop = shared + sum(flop for _, flop in works)
        memory = self._memory() + BYTES_PER_PARAMETER * max(cost.parameters for cost in self._head_costs.values())
        return Training(Need(disk, memory, flop, shared), first, [seconds for seconds, _ in works], first)

    def lockstep(self, disk: float) -> Training:
        """Return what training takes if the trials of a seed share the states of each step."""
        kept = [(one, *self._padded(one, *map(sum, zip(*one.validated, strict=True)))) for one in self.stages]
        flop = sum(self._flop_of_encoding(*one) for one in kept)
        first = encoding = sum(stage.encoding(*texts) for stage, *texts in kept)
        parts, most = [], 0.0
        for group in lockstep_groups(self.prepared, self.pending):
            works = [self._work(trial) for trial in group.trials]
            seconds = sum(seconds for seconds, _ in works)
            flop += sum(flop for _, flop in works)
            for stage, (config, data) in zip(self.stages, self.prepared.stages(group.trials[0].config), strict=True):
                seen = count_steps(config, len(data.examples)) * config.examples_a_step
                if len(data.examples) <= self._ahead(stage)[0]:  # then later epochs find their states
                    seen = min(seen, len(data.examples))
                texts = self._padded(stage, seen, seen * stage.n_ways)
                seconds += stage.encoding(*texts)
                encoding += stage.encoding(*texts)
                flop += self._flop_of_encoding(stage, *texts)
            parts.append(seconds)
            most = max(most, sum(self._head_costs[str(trial.spec)].parameters for trial in group.trials))
        memory = self._memory() + BYTES_PER_PARAMETER * most + max(map(self._passing_bytes, self.stages))
        return Training(Need(disk, memory, flop), first, parts, encoding)

    def _padded(self, stage: _Stage, queries: int, documents: int) -> tuple[float, float]:
        """Return how many texts without padding take as long as so many in canonical batches."""
        batch = tokens_of_a_batch(self.prepared.model.device, canonical=True)
        counts = (queries, documents)
        ratios = [
            padding_ratio(sample.states.lengths, min(count, ahead), batch)
            for sample, count, ahead in zip((stage.queries, stage.documents), counts, self._ahead(stage), strict=True)
        ]
        return queries * ratios[0], documents * ratios[1]

    def _ahead(self, stage: _Stage) -> tuple[int, int]:
        """Return the numbers of queries and of documents that are encoded at once in lockstep."""
        queries = texts_ahead(self.prepared.model.device.type) // (1 + stage.n_ways)
        return queries, queries * stage.n_ways

    def _passing_bytes(self, stage: _Stage) -> float:
        return stage.tokens(*self._ahead(stage)) * self.prepared.model.in_features * 2

    def _memory(self) -> float:
        """Return the memory of a process, without optimisers of heads, and without states that come and go."""
        model, share, largest = self.prepared.model, self._trained_share, 0.0
        texts = sum(sum(map(len, one)) + BYTES_PER_TEXT * len(one) for one in self._texts())
        numbers = max(self.costs.values()) / model.in_features * BYTES_PER_ACTIVATION + 6 * model.in_features
        if share and not self.prepared.config.train.gradient_checkpointing:
            numbers += share * self._backbone.layers * self._backbone.width * BYTES_PER_LAYER
        for stage in self.stages:
            for config in {trial.config.batch_size: trial.config for trial in self.pending}.values():
                size = config.mini_batch_size or config.batch_size * (1 + stage.n_ways)
                queries = min(size, config.batch_size)
                documents = min(size, config.batch_size * stage.n_ways)
                together = stage.tokens(queries, documents if config.mini_batch_size is None else 0)
                largest = max(largest, together, stage.tokens(0, documents))
        trained = share * BYTES_PER_PARAMETER * self._backbone.parameters
        return process_bytes(threads_on(model.device)) + texts + numbers * largest + trained

    def _texts(self) -> list[Sequence[str]]:
        return [texts for stage in self.stages for texts in (stage.data.queries, stage.data.documents)]

    def models(self) -> float:
        """Return the size in bytes of the trials' models, each of which includes a trained backbone."""
        kept = {(trial.spec, trial.seed) for trial in self.pending}
        return len(kept) * sum(4.0 * one.numel() for one in self.prepared.model.native.parameters())
