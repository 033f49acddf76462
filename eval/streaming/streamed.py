"""Evaluation of subjects without storing what their backbone makes of the corpus."""

from collections.abc import Sequence

from eval.embed import Encoded
from eval.evaluator import Evaluator, Found, InProgressError
from eval.search.choice import Answer
from eval.stand_in import describe_stand_in
from eval.streaming.corpus_pass import CorpusPass, pass_base
from eval.streaming.pass_folder import Tally
from eval.streaming.views import Wanted
from eval.subjects import Subject
from experiment.config.storage_forms import StorageForm
from experiment.console.progress import human_time
from experiment.disk.lock import locked
from experiment.disk.records import IndexFacts, StandIn
from experiment.executors.protocol import Executor
from projheads.errors import ProjheadsError

__all__ = ["evaluate_streamed"]


def evaluate_streamed(evaluator: Evaluator, subjects: Sequence[Subject], executor: Executor) -> list[str]:
    """Evaluate subjects that share a backbone, or a single one, in one pass; return the names of those that failed.

    Several processes may do so at once: each works on the chunks that no other has claimed.
    """
    name, say = evaluator.task.dataset.name, evaluator.progress.say
    lock = pass_base(evaluator, subjects[0]) / ".lock"
    with locked(lock):
        # Another process may have finished, and removed, the pass since this one listed what is pending.
        subjects = evaluator.ledger.pending(subjects)
        corpus = CorpusPass.open(evaluator, subjects) if subjects else None
    if corpus is None:
        return []
    try:
        _work(corpus, executor)
        results = _Results(corpus)
        outcomes = [(subject, _attempt(results, subject)) for subject in subjects]
    except ProjheadsError as error:
        # Another process may have finished, and removed, the pass meanwhile.
        outcomes = [(subject, error) for subject in evaluator.ledger.pending(subjects)]
    finally:
        corpus.close()
    for subject, outcome in outcomes:
        say(f"{name} {subject.name}: {'FAILED: ' if isinstance(outcome, ProjheadsError) else ''}{outcome}")
    with locked(lock):
        if corpus.folder.is_there() and len(corpus.folder.finished()) == corpus.folder.chunks:
            corpus.folder.remove()
            evaluator.encoder.remove_embeddings(subjects)
    return [f"{subject.name} on {name}" for subject, outcome in outcomes if isinstance(outcome, ProjheadsError)]


def _work(corpus: CorpusPass, executor: Executor) -> None:
    """Work on all chunks, last on those that other processes have claimed.

    Raises:
        ProjheadsError: The error of the first chunk that failed.
    """
    progress, done = corpus.evaluator.progress, corpus.folder.finished()
    queue = [chunk for chunk in corpus.chunks() if chunk.number not in done]
    total, searches = len(corpus.evaluator.task.documents), len(corpus.wanted)
    with progress.step(f"one pass over {total} documents, {searches} searches", 1) as advance:
        advance(1 - len(queue) / corpus.folder.chunks)
        for waits in (False, True):
            deferred, corpus.waits = [], waits
            for chunk, outcome in executor.map(corpus, queue, progress, advance):
                if isinstance(outcome, InProgressError):
                    deferred.append(chunk)
                elif isinstance(outcome, ProjheadsError):
                    raise outcome
            queue = deferred


def _attempt(results: "_Results", subject: Subject) -> str | ProjheadsError:
    try:
        return results.write(subject)
    except ProjheadsError as error:
        return error


class _Results:
    """The results of a finished pass, subject by subject."""

    def __init__(self, corpus: CorpusPass) -> None:
        self._corpus, self._evaluator, self._task = corpus, corpus.evaluator, corpus.evaluator.task
        self._tally: Tally
        self._tally, self._failed = corpus.folder.tally()

    def write(self, subject: Subject) -> str:
        """Write the files of a subject's evaluation and return a summary.

        Raises:
            ProjheadsError: If one of its searches failed.
        """
        wanted = [one for one in self._corpus.wanted.values() if one.subject == subject]
        evaluator = self._evaluator
        with locked(subject.folder.evaluations / ".lock"):
            subject.folder.remove_leftovers()
            if evaluator.ledger.is_finished(subject):
                return "finished by another process"
            own, parts = wanted[0], []
            if not evaluator.ledger.has_run(subject):
                answer = self._answer(own)
                stand_in = next((self._stand_in(one) for one in wanted if one.kind == "stand-in"), None)
                parts.append(evaluator.write(subject, answer, self._encoded(own), stand_in, streamed=True))
            searched = {one.form.name: one for one in wanted if one.form is not None}
            for form in evaluator.ledger.missing_forms(subject):
                found = {form.name: self._found(searched.get(form.name), own)}
                sample = self._corpus.fits.sampled if isinstance(form, StorageForm) and form.is_fitted else None
                parts.append(evaluator.write_form(subject, form, found, sample))
        place = self._place(own)
        took = human_time(float(self._tally.project_s[place] + self._tally.search_s[place]))
        return f"{'; '.join(parts)}, {took} beside the shared {human_time(self._tally.encode_s)} of encoding"

    def _place(self, wanted: Wanted) -> int:
        return self._corpus.folder.views.index(wanted.key)

    def _answer(self, wanted: Wanted) -> Answer:
        """Merge what all processes found for a search."""
        place = self._place(wanted)
        if place in self._failed:
            raise ProjheadsError(self._failed[place])
        if not self._tally.rows:
            raise ProjheadsError(
                f"{wanted.subject.name}: none of the {len(self._task.documents)} documents has a token vector"
            )
        rankings = self._corpus.folder.merged(place, self._task.priority).rankings()
        index = IndexFacts(kind="exact", depth=self._task.settings.depth)
        return Answer(rankings, index, 0.0, float(self._tally.search_s[place]), 0)

    def _encoded(self, wanted: Wanted) -> Encoded:
        place, queries = self._place(wanted), self._evaluator.encoder.query_store(wanted.subject)
        return Encoded(
            seconds=queries.seconds + self._tally.encode_s + float(self._tally.project_s[place]),
            truncated=(queries.truncated, self._tally.truncated),
            document_bytes=int(self._tally.bytes[place]),
        )

    def _stand_in(self, wanted: Wanted) -> StandIn:
        measures = self._task.measure(self._answer(wanted))[1]
        return describe_stand_in(*self._corpus.fits.stand_in(wanted.subject), measures)

    def _found(self, wanted: Wanted | None, own: Wanted) -> Found:
        """Return what the search of a form found; without one, the form stores the vectors unchanged."""
        if wanted is None or wanted.form is None:
            return Found(None, 2 * own.subject.out_features, int(self._tally.bytes[self._place(own)]))
        code = self._corpus.fits.code(wanted.subject, wanted.form)
        # What is read back is in half precision.
        vectors = int(self._tally.bytes[self._place(wanted)]) // (2 * code.width)
        return Found(self._answer(wanted).rankings, code.bytes_per_vector, code.index_bytes(vectors))
