"""What a pass over a corpus searches with: the embeddings of each head, also in smaller storage forms."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np

from eval.embed import SubjectEncoder, check_subject, read_subject_head
from eval.evaluation_record import Form
from eval.ledger import Ledger
from eval.sample import draw_sample, is_sampled
from eval.search.compressed import STORAGE_VERSION, FormCode, fit_form
from eval.stand_in import fit_stand_in, stand_in_states
from eval.subjects import Subject
from experiment.config.storage_forms import StorageForm
from experiment.disk.files import sha256_json
from experiment.encoding.store import TokenStore
from projheads import Linearised
from projheads.errors import ProjheadsError

__all__ = ["Fits", "View", "Wanted", "open_views", "wanted_views"]


@dataclass(frozen=True)
class Wanted:
    """A search that an evaluation needs.

    Attributes:
        subject: What is evaluated.
        kind: ``own`` for the embeddings themselves, ``stand-in`` for those of the head's linear stand-in, or ``form``.
        key: Hash of all that its result depends on.
        form: The storage form; None for the other kinds.
    """

    subject: Subject
    kind: str
    key: str
    form: StorageForm | None = None


def wanted_views(ledger: Ledger, subject: Subject) -> list[Wanted]:
    """List the searches that the evaluation of a subject still needs, its own first."""
    settings = ledger.task.settings
    key = ledger.key(subject, streamed=True)
    found, forms = [Wanted(subject, "own", sha256_json(["own", key]))], list[Form]()
    if ledger.has_run(subject):
        forms = ledger.missing_forms(subject)
    else:
        if settings.linearise and subject.has_stand_in:
            found.append(Wanted(subject, "stand-in", sha256_json(["stand-in", key])))
        if subject.kind == "model":
            forms = ledger.forms
    for form in forms:
        # One that stores the vectors unchanged is searched with the evaluation itself.
        if isinstance(form, StorageForm) and not (
            form.keeps(subject.out_features) and settings.vector_dtype == "float16"
        ):
            found.append(Wanted(subject, "form", sha256_json(["form", key, form.name, STORAGE_VERSION]), form))
    return found


@dataclass(frozen=True)
class View:
    """One search of a pass.

    Attributes:
        name: What messages call it.
        queries: Embeddings of the queries.
        embed: Computes the embeddings of one slice of documents from what the backbone made of it, or for a storage
            form from the subject's own embeddings.
        of_own: Whether ``embed`` takes the subject's own embeddings.
    """

    name: str
    queries: TokenStore
    embed: Callable[[TokenStore], TokenStore]
    of_own: bool = False


class Fits:
    """What is fitted on a sample of the corpus; it is the same in every process of a pass."""

    def __init__(self, encoder: SubjectEncoder, ledger: Ledger) -> None:
        self._encoder, self._task = encoder, ledger.task
        self._samples: dict[str, TokenStore] = {}
        self._stand_ins: dict[str, tuple[Linearised, str]] = {}
        self._codes: dict[str, FormCode] = {}
        self._places = draw_sample(self._task.document_ids, self._task.judged)

    @property
    def sampled(self) -> int | None:
        """How many documents the sample has; None if it is the entire corpus."""
        return len(self._places) if is_sampled(len(self._task.document_ids)) else None

    @property
    def described(self) -> str:
        """What the sample is, for messages and records."""
        return f"{len(self._places)} of {len(self._task.document_ids)} documents"

    def sample(self, subject: Subject) -> TokenStore:
        """Return what the backbone of a frozen subject, or all of another, makes of the sampled documents."""
        key = self._encoder.encoded_as(subject)
        if key not in self._samples:
            with self._encoder.window_of(subject, [self._task.documents[place] for place in self._places]) as window:
                self._samples[key] = TokenStore(np.array(window.vectors), window.offsets)
        return self._samples[key]

    def stand_in(self, subject: Subject) -> tuple[Linearised, str]:
        """Return the linear stand-in of a subject's head, and what it was fitted on."""
        if subject.fingerprint not in self._stand_ins:
            ids = [self._task.document_ids[place] for place in self._places]
            queries = self._encoder.query_store(subject)
            states, name = stand_in_states(queries, self.sample(subject), ids, self._task.judged)
            sampled = f", sampled from {self.described}" if self.sampled else ""
            self._stand_ins[subject.fingerprint] = fit_stand_in(subject, states), name + sampled
        return self._stand_ins[subject.fingerprint]

    def code(self, subject: Subject, form: StorageForm) -> FormCode:
        """Return the code of a storage form, trained on a subject's embeddings of the sample."""
        key = f"{subject.fingerprint} {form.name}"
        if key not in self._codes:
            sample = self.sample(subject)
            own = self._encoder.project_slice(sample, read_subject_head(subject)) if subject.frozen else sample
            self._codes[key] = fit_form(form, own, io.BytesIO(), scaled=subject.scales_pooled)[0]
        return self._codes[key]


def open_views(
    wanted: Sequence[Wanted], encoder: SubjectEncoder, fits: Fits, stack: ExitStack
) -> Iterator[View | ProjheadsError]:
    """Open the views that searches need, in their order; they are valid until the stack is closed.

    Yields:
        The view, or why it cannot be opened.
    """
    for one in wanted:
        try:
            yield _open(one, encoder, fits, stack)
        except ProjheadsError as error:
            yield error


def _read_back(code: FormCode, own: TokenStore) -> TokenStore:
    return code.read_back(code.pooled(own, io.BytesIO()), io.BytesIO())


def _open(wanted: Wanted, encoder: SubjectEncoder, fits: Fits, stack: ExitStack) -> View:
    subject = wanted.subject
    check_subject(subject)
    head = read_subject_head(subject) if subject.frozen else None
    if wanted.kind == "stand-in":
        head = fits.stand_in(subject)[0].linear
    queries = stack.enter_context(encoder.queries_of(subject, head))
    name = f"{subject.name} as {wanted.form.name}" if wanted.form else subject.name
    if not len(queries.vectors):
        raise ProjheadsError(f"{name}: none of the {len(queries)} queries has a token vector")
    if wanted.form is not None:
        code = fits.code(subject, wanted.form)
        return View(name, code.queries(queries, io.BytesIO()), partial(_read_back, code), of_own=True)
    if head is None:
        return View(name, queries, lambda window: window)
    return View(name, queries, partial(encoder.project_slice, head=head))
