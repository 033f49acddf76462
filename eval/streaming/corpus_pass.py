"""One pass over a corpus, chunk by chunk, in this process or in several of this machine."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch

from eval.evaluator import Evaluator, InProgressError
from eval.search.exact import exact_search
from eval.streaming.best import Best
from eval.streaming.pass_folder import Part, PassFolder, Tally
from eval.streaming.views import Fits, View, Wanted, open_views, wanted_views
from eval.subjects import Subject
from experiment.console.progress import Advance, Progress
from experiment.disk.files import sha256_json
from experiment.encoding.store import TokenStore
from experiment.encoding.tokens import ENCODING_VERSION
from experiment.encoding.windows import text_slices, text_windows
from experiment.memory import returning_large_blocks
from projheads.errors import ProjheadsError

__all__ = ["MOST_CHUNKS", "PASS_VERSION", "Chunk", "CorpusPass", "pass_base"]

PASS_VERSION = 2
"""Raised when a change to the code changes what a pass keeps; unfinished passes then start again."""

MOST_CHUNKS = 1024
"""Chunks that a corpus is divided into at most; each is at least one window of texts."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive windows of a corpus: the work that is lost with a worker.

    Attributes:
        name: What messages call it.
        number: Its number.
    """

    name: str
    number: int


class CorpusPass:
    """Evaluates subjects that share a backbone, or a single one, in one pass over the corpus.

    Several processes may work on the same pass at once; they share its folder.

    Attributes:
        evaluator: The data set, and how texts are encoded.
        wanted: The searches that are needed, by key.
        folder: The folder of the pass.
        waits: Whether to wait for a chunk that another process works on.
    """

    def __init__(self, evaluator: Evaluator, wanted: Mapping[str, Wanted], folder: PassFolder) -> None:
        self.evaluator, self.wanted, self.folder, self.waits = evaluator, wanted, folder, False
        self.windows = list(text_windows(len(evaluator.task.documents)))

    @classmethod
    def open(cls, evaluator: Evaluator, subjects: Sequence[Subject]) -> "CorpusPass":
        """Start a pass, or join or resume the one that does the same."""
        task, documents = evaluator.task, len(evaluator.task.documents)
        wanted = {one.key: one for subject in subjects for one in wanted_views(evaluator.ledger, subject)}
        chunks = math.ceil(len(list(text_windows(documents))) / windows_of_chunk(documents))
        folder = PassFolder.open(
            pass_base(evaluator, subjects[0]), list(wanted), chunks, len(task.queries), task.settings.depth
        )
        return cls(evaluator, wanted, folder)

    def chunks(self) -> list[Chunk]:
        """List the chunks."""
        count, name = self.folder.chunks, self.evaluator.task.dataset.name
        return [Chunk(f"{name} chunk {number + 1} of {count}", number) for number in range(count)]

    @cached_property
    def fits(self) -> Fits:
        """What is fitted on a sample of the corpus."""
        return Fits(self.evaluator.encoder, self.evaluator.ledger)

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        return self.evaluator.device

    def __call__(self, chunk: Chunk, /, progress: Progress, advance: Advance) -> str:
        """Work on a chunk and return a summary.

        Raises:
            InProgressError: If another process works on it and this one does not wait.
            ProjheadsError: If the documents cannot be encoded.
        """
        with self.folder.claim(chunk.number, wait=self.waits) as mine:
            if not mine:
                raise InProgressError("in progress in another process; deferred")
            if not self.folder.is_there():
                self.folder.remove()
                summary = "finished by another process"
            elif chunk.number in self.folder.finished():
                summary = "finished before"
            else:
                summary = self.session.work(chunk.number, advance)
        advance(0.0)
        return summary

    def recipe(self) -> "Callable[[], CorpusPass]":
        """Return a function that can be pickled and makes such a pass in another process."""
        return partial(_reopen, self.evaluator.recipe(), dict(self.wanted), self.folder)

    def close(self) -> None:
        """Release the part of this process, so that the next one continues it."""
        if "session" in self.__dict__:
            self.__dict__.pop("session").stack.close()

    @cached_property
    def session(self) -> "Session":
        """The open views and the part of this process."""
        stack = ExitStack()
        stack.enter_context(returning_large_blocks())
        file, part = self.folder.own_part(stack)
        wanted = [self.wanted[key] for key in self.folder.views]
        views = list(open_views(wanted, self.evaluator.encoder, self.fits, stack))
        return Session(self, wanted, views, stack, file, part)


@dataclass
class Session:
    """A pass in one process: the open views, and the part that this process holds."""

    corpus: CorpusPass
    wanted: Sequence[Wanted]
    views: Sequence[View | ProjheadsError]
    stack: ExitStack
    file: Path
    part: Part

    def work(self, number: int, advance: Advance) -> str:
        """Encode and search the windows of a chunk, and write the part."""
        # The chunk is added to a copy, so that one that fails half way has never happened.
        started, part, tally = time.perf_counter(), self.part.copy(), Tally.nothing(len(self.views))
        part.failed |= {place: str(view) for place, view in enumerate(self.views) if isinstance(view, ProjheadsError)}
        documents = self.corpus.evaluator.task.documents
        size = windows_of_chunk(len(documents))
        chosen = self.corpus.windows[number * size : (number + 1) * size]
        for window in chosen:
            texts = documents[window]
            with self.corpus.evaluator.encoder.window_of(self.wanted[0].subject, texts) as encoded:
                tally.rows += len(encoded.vectors)
                tally.truncated += encoded.truncated
                tally.encode_s += encoded.seconds
                for inside in text_slices(encoded.offsets):
                    place = slice(window.start + inside.start, window.start + inside.stop)
                    self._search(encoded.at(inside), place, part, tally)
            advance(len(texts) / len(documents))
        part.chunks[number] = tally
        self.corpus.folder.write(self.file, part)
        self.part = part
        return f"{time.perf_counter() - started:.0f} s"

    def _search(self, encoded: TokenStore, texts: slice, part: Part, tally: Tally) -> None:
        """Search one slice of the corpus with every view, subject by subject: memory holds the embeddings of one."""
        for subject in dict.fromkeys(one.subject.name for one in self.wanted):
            own: TokenStore | None = None
            members = [place for place, one in enumerate(self.wanted) if one.subject.name == subject]
            for place in sorted(members, key=lambda place: self.wanted[place].kind != "own"):
                view = self.views[place]
                if isinstance(view, ProjheadsError) or place in part.failed:
                    continue
                try:
                    started = time.perf_counter()
                    if view.of_own and own is None:
                        raise ProjheadsError("its embeddings could not be computed")
                    embeddings = view.embed(own if view.of_own and own is not None else encoded)
                    own = embeddings if self.wanted[place].kind == "own" else own
                    tally.project_s[place] += time.perf_counter() - started
                    started = time.perf_counter()
                    self._search_view(view, embeddings, texts, part.best[place])
                    tally.bytes[place] += embeddings.vectors.nbytes
                    tally.search_s[place] += time.perf_counter() - started
                except ProjheadsError as error:
                    part.failed[place] = str(error)

    def _search_view(self, view: View, documents: TokenStore, texts: slice, best: Best) -> None:
        task = self.corpus.evaluator.task
        problem = task.problem(view.queries, documents, texts)
        best.add(exact_search(problem, device=self.corpus.device, floors=best.floors), task.priority, texts.start)


def windows_of_chunk(documents: int) -> int:
    """Return how many windows a chunk has; the last one may have fewer."""
    return math.ceil(len(list(text_windows(documents))) / MOST_CHUNKS)


def pass_base(evaluator: Evaluator, subject: Subject) -> Path:
    """Return the folder of all passes over a corpus with the backbone of a subject."""
    task, encoding = evaluator.task, evaluator.encoding
    key = sha256_json(
        [
            [PASS_VERSION, ENCODING_VERSION, task.collection.hash, sorted(task.excluded)],
            [evaluator.encoder.encoded_as(subject), encoding.batch_tokens, encoding.device.type],
        ]
    )
    return encoding.cache / "passes" / key[:32]


def _reopen(recipe: Callable[[], Evaluator], wanted: Mapping[str, Wanted], folder: PassFolder) -> CorpusPass:
    """Make a pass in another process, from the same files."""
    made = CorpusPass(recipe(), wanted, folder)
    made.waits = True
    return made
