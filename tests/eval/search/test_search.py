"""Exact and FAISS search against MaxSim written down in numpy, with ties, own documents and awkward lengths."""

import builtins
import sys
import weakref
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import eval.search.choice as search_module
import eval.search.exact as exact_module
import eval.search.faiss_index as approximate_module
from eval.search.choice import SearchSettings, check_search, choose_index, search, search_settings
from eval.search.exact import choose_first_pass, exact_search
from eval.search.faiss_index import build_index, faiss_search
from eval.search.ranking import Problem, priorities, shortlist
from experiment.collections.same_ids import excluded_places
from experiment.config import EvalConfig
from experiment.disk.records import CandidateRecall, IndexFacts
from experiment.encoding.store import TokenStore, offsets_of
from projheads.errors import ProjheadsError
from projheads.scoring import maxsim

CPU = torch.device("cpu")


def make_store(texts, width, dtype=np.float16):
    rows = np.concatenate([np.zeros((0, width)), *texts])
    return TokenStore(rows.astype(dtype), offsets_of(np.array([len(text) for text in texts], np.int64)))


def make_problem(queries, documents, query_ids, document_ids, *, depth):
    own = excluded_places(query_ids, document_ids, query_ids)
    return Problem(queries, documents, depth, priorities(document_ids), own)


def random_problem(seed, *, documents=40, queries=7, width=16, depth=10, longest=9, copies=5, dtype=np.float16):
    """A corpus with shuffled ids, duplicate and empty documents, and queries that have ids of documents."""
    generator = np.random.default_rng(seed)

    def text(length):
        rows = generator.standard_normal((length, width))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    corpus = [text(generator.integers(1, longest + 1)) for _ in range(documents)]
    for _ in range(copies):
        corpus[generator.integers(documents)] = corpus[generator.integers(documents)]
    corpus[generator.integers(documents)] = np.zeros((0, width))
    asked = [text(length) for length in generator.integers(0, 6, size=queries)]
    document_ids = [str(number) for number in generator.permutation(documents)]
    query_ids = [document_ids[3], *(f"q{number}" for number in range(1, queries))]
    return (
        make_problem(
            make_store(asked, width, dtype), make_store(corpus, width, dtype), query_ids, document_ids, depth=depth
        ),
        query_ids,
        document_ids,
    )


def by_hand(problem, query_ids, document_ids):
    """Every ranking from the definition: loops, float64, Python's sort on (score, id)."""
    rankings = []
    for query, query_id in enumerate(query_ids):
        scores = []
        for document, document_id in enumerate(document_ids):
            rows = problem.documents[document].astype(np.float64)
            if len(rows) and len(problem.queries[query]) and document_id != query_id:
                total = sum(
                    max(float(row @ token) for row in rows) for token in problem.queries[query].astype(np.float64)
                )
                scores.append((np.float32(total), document_id.encode(), document))
        rankings.append([(document, score) for score, _, document in sorted(scores, reverse=True)[: problem.depth]])
    return rankings


def as_pairs(rankings):
    return [list(zip(found.documents.tolist(), found.scores.tolist(), strict=True)) for found in rankings]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("depth", [1, 10, 1000])
def test_exact_search_is_the_definition(seed, depth):
    problem, query_ids, document_ids = random_problem(seed, depth=depth)
    assert as_pairs(exact_search(problem, device=CPU)) == by_hand(problem, query_ids, document_ids)


@pytest.mark.parametrize("seed", range(3))
def test_windows_and_tiles_change_nothing(seed, monkeypatch):
    problem, _, _ = random_problem(seed, documents=60)
    expected = as_pairs(exact_search(problem, device=CPU))
    for window, tile in ((2**8, (3, 5)), (2**11, (1, 1)), (2**12, (64, 7))):
        monkeypatch.setattr("experiment.encoding.windows.SEARCHED_BYTES", window)
        monkeypatch.setattr(exact_module, "TILE_ON_CPU", tile)
        assert as_pairs(exact_search(problem, device=CPU)) == expected


def test_a_window_is_freed_before_the_next_one_is_read(monkeypatch):
    read = []

    def read_window(*arguments):
        assert all(window() is None for window in read)
        window = window_of(*arguments)
        read.append(weakref.ref(window))
        return window

    window_of = exact_module._window
    monkeypatch.setattr(exact_module, "_window", read_window)
    monkeypatch.setattr("experiment.encoding.windows.SEARCHED_BYTES", 2**11)
    exact_search(random_problem(0, documents=60)[0], device=CPU)
    assert len(read) > 3


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(threads):
    problem, query_ids, document_ids = random_problem(11, documents=200, width=32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert as_pairs(exact_search(problem, device=CPU)) == by_hand(problem, query_ids, document_ids)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("depth", [1, 10])
@pytest.mark.parametrize("first_pass", ["bf16", "fused"])
def test_how_the_first_pass_multiplies_changes_nothing(seed, depth, first_pass, monkeypatch):
    def on_the_cpu(queries, documents, *, backend):
        assert backend == "fused"
        assert queries.dtype == documents.dtype == torch.float16
        return maxsim(queries, documents, backend="reference")

    monkeypatch.setattr(exact_module, "maxsim", on_the_cpu)
    monkeypatch.setattr(exact_module, "TILE_ON_CPU", (7, 30))
    monkeypatch.setattr("experiment.encoding.windows.SEARCHED_BYTES", 2**13)
    problem, query_ids, document_ids = random_problem(seed, documents=300, copies=60, depth=depth)
    found = exact_search(problem, device=CPU, first_pass=first_pass)
    assert as_pairs(found) == by_hand(problem, query_ids, document_ids)


def test_what_bf16_leaves_open_is_decided_in_float32(monkeypatch):
    passes = []
    real = exact_module.score_all

    def watched(problem, queries, kept, device, how, progress):
        passes.append((how, len(queries)))
        return real(problem, queries, kept, device, how, progress)

    monkeypatch.setattr(exact_module, "score_all", watched)
    generator = np.random.default_rng(0)
    rows = generator.standard_normal(8) + 0.02 * generator.standard_normal((400, 1, 8))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    ids = [str(number) for number in range(400)]
    problem = make_problem(make_store([rows[0]], 8), make_store(list(rows), 8), ["q"], ids, depth=5)
    assert as_pairs(exact_search(problem, device=CPU, first_pass="bf16")) == by_hand(problem, ["q"], ids)
    assert passes == [("bf16", 1), ("fp32", 1)]


def test_errors_of_the_first_pass_are_bounded():
    problem, query_ids, document_ids = random_problem(1, documents=200, copies=0, width=64, depth=200)
    exact = [dict(pairs) for pairs in by_hand(problem, query_ids, document_ids)]
    lengths = problem.queries.lengths
    queries = np.argsort(-lengths, kind="stable")[: int((lengths > 0).sum())]
    shares = []
    for how in ("fp32", "bf16"):
        scores, documents, errors = exact_module.score_all(problem, queries, 190, CPU, how, lambda share: None)
        for row, query in enumerate(queries):
            off = max(abs(score - exact[query][name]) for score, name in zip(scores[row], documents[row], strict=True))
            shares.append(off / errors[row])
    assert 0.05 < max(shares) <= 1


@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_the_maxima_of_a_tile_are_those_of_its_numbers_whatever_their_sign(shift):
    similarities = torch.randn(7, 5, 9, generator=torch.Generator().manual_seed(0)) + shift
    similarities[:, 0] = torch.tensor([-0.0, 0.0, -1.0, -2.0, -0.5, -0.0, -3.0])[:, None]
    for dtype in (torch.float32, torch.bfloat16):
        given = similarities.to(dtype)
        assert exact_module._maxima(given.clone()).tolist() == given.max(dim=0).values.tolist()


@pytest.mark.parametrize("native, chosen", [(True, "bf16"), (False, "fp32")])
def test_the_first_pass_is_in_bf16_where_the_processor_multiplies_it_faster(monkeypatch, native, chosen):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    problem, _, _ = random_problem(1)
    assert choose_first_pass(CPU, problem.documents) == chosen
    assert choose_first_pass(torch.device("mps"), problem.documents) == "fp32"


def test_a_score_is_the_exact_rational_number_rounded_once():
    problem, query_ids, _ = random_problem(21, documents=6, width=24, copies=0, longest=4)
    found = exact_search(problem, device=CPU)
    scored = 0
    for query in range(len(query_ids)):
        for document, score in zip(found[query].documents, found[query].scores, strict=True):
            total = sum(
                max(
                    sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(token, row, strict=True))
                    for row in problem.documents[int(document)]
                )
                for token in problem.queries[query]
            )
            assert float(score) == float(np.float32(float(total)))
            scored += 1
    assert scored > 15


def test_equal_documents_get_equal_scores_and_stand_by_falling_id():
    rows = np.random.default_rng(0).standard_normal((4, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = ["9", "10", "é", "z", "a", "Z", "\U0001f600", "\uffff", "B", "100"]
    problem = make_problem(make_store([rows[:2]], 8), make_store([rows] * len(ids), 8), ["q"], ids, depth=10)
    (found,) = exact_search(problem, device=CPU)
    assert len(set(found.scores.tolist())) == 1
    assert [ids[place] for place in found.documents] == sorted(ids, key=lambda name: name.encode(), reverse=True)


def test_a_border_crowded_with_equal_documents_is_searched_until_it_is_decided():
    rows = np.random.default_rng(0).standard_normal((3, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = [f"{number:04d}" for number in range(500)]
    assert len(ids) > 5 + exact_module.SPARE
    problem = make_problem(make_store([rows[:1]], 8), make_store([rows] * 500, 8), ["q"], ids, depth=5)
    (found,) = exact_search(problem, device=CPU)
    assert [ids[place] for place in found.documents] == ["0499", "0498", "0497", "0496", "0495"]


def test_negative_scores_are_ranked_and_padding_never_wins():
    query = np.array([[1.0, 0.0]])
    documents = [np.array([[-1.0, 0.0]]), np.array([[-0.5, 0.0], [-0.75, 0.0], [-1.0, 0.0]])]
    problem = make_problem(make_store([query], 2), make_store(documents, 2), ["q"], ["a", "b"], depth=2)
    assert as_pairs(exact_search(problem, device=CPU)) == [[(1, -0.5), (0, -1.0)]]


def test_only_the_asked_queries_are_answered_in_the_asked_order():
    problem, _, _ = random_problem(5)
    everything = as_pairs(exact_search(problem, device=CPU))
    some = exact_search(problem, device=CPU, queries=np.array([6, 0, 3]))
    assert as_pairs(some) == [everything[6], everything[0], everything[3]]


def test_progress_of_an_exact_search_sums_to_one(monkeypatch):
    monkeypatch.setattr("experiment.encoding.windows.SEARCHED_BYTES", 2**9)
    shares = []
    problem, _, _ = random_problem(1)
    exact_search(problem, device=CPU, progress=shares.append)
    assert len(shares) > 3
    assert sum(shares) == pytest.approx(1)


def test_a_corpus_without_a_single_token_vector_gives_nothing():
    problem = make_problem(
        make_store([np.ones((1, 2))], 2), make_store([np.zeros((0, 2))] * 3, 2), ["q"], list("abc"), depth=2
    )
    assert as_pairs(exact_search(problem, device=CPU)) == [[]]


@settings(deadline=None, max_examples=60)
@given(
    scores=st.lists(st.integers(-8, 8).map(lambda whole: whole / 4) | st.just(-np.inf), min_size=1, max_size=30),
    depth=st.integers(1, 12),
    error=st.sampled_from([0.0, 0.125, 0.5]),
    data=st.data(),
)
def test_the_shortlist_holds_every_document_that_can_be_wanted(scores, depth, error, data):
    computed = np.array(scores)
    true = computed + np.array([data.draw(st.sampled_from([-error, 0.0, error])) for _ in scores])
    findable = np.flatnonzero(computed > -np.inf)
    wanted = sorted(findable, key=lambda place: -true[place])[:depth]
    near = shortlist(computed, depth, error)
    assert set(wanted) <= set(near.tolist()) <= set(findable.tolist())


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat", "HNSW16", "SQfp16"])
@pytest.mark.parametrize("seed", range(3))
def test_faiss_with_every_candidate_is_the_exact_search(factory, seed):
    problem, query_ids, document_ids = random_problem(seed, documents=60, copies=20)
    index = build_index(problem.documents, factory, 4 if factory.startswith("IVF") else None, CPU)
    found = faiss_search(problem, index, candidates_per_token=10**6)
    assert as_pairs(found) == by_hand(problem, query_ids, document_ids)


def test_faiss_ranks_the_union_of_the_candidates_of_all_query_tokens():
    problem, query_ids, document_ids = random_problem(3, documents=60, depth=100)
    similarities = problem.queries.vectors.astype(np.float64) @ problem.documents.vectors.astype(np.float64).T
    owner = np.repeat(np.arange(60), problem.documents.lengths)
    exact = by_hand(problem, query_ids, document_ids)
    found = faiss_search(problem, build_index(problem.documents, "Flat", None, CPU), candidates_per_token=4)
    for query, answer in enumerate(as_pairs(found)):
        rows = similarities[problem.queries.offsets[query] : problem.queries.offsets[query + 1]]
        proposed = {int(owner[row]) for token in rows for row in np.argsort(-token)[:4]}
        assert answer == [pair for pair in exact[query] if pair[0] in proposed]


def test_faiss_in_many_batches_is_faiss_in_one(monkeypatch):
    problem, _, _ = random_problem(4, documents=60)
    index = build_index(problem.documents, "Flat", None, CPU)
    one = as_pairs(faiss_search(problem, index, candidates_per_token=5))
    monkeypatch.setattr(approximate_module, "HITS", 20)
    shares = []
    assert as_pairs(faiss_search(problem, index, candidates_per_token=5, progress=shares.append)) == one
    assert len(shares) > 2
    assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize("factory", ["IVF8,Flat", "IVF8,PQ4np", "HNSW8"])
def test_the_same_vectors_give_the_same_index(factory):
    problem, _, _ = random_problem(8, documents=300, width=16)
    answers = [
        as_pairs(faiss_search(problem, build_index(problem.documents, factory, None, CPU), candidates_per_token=8))
        for _ in range(2)
    ]
    assert answers[0] == answers[1]


def test_search_measures_the_candidate_recall_against_the_exact_search():
    problem, query_ids, document_ids = random_problem(2, documents=60, depth=10)
    answer = search(problem, SearchSettings("Flat", None, 3), CPU)
    exact = by_hand(problem, query_ids, document_ids)
    shares = [
        len({place for place, _ in exact[query]} & set(found.documents.tolist())) / len(exact[query])
        for query, found in enumerate(answer.rankings)
        if exact[query]
    ]
    recall = answer.index.candidate_recall
    assert recall == CandidateRecall(at=10, value=recall.value, queries=len(query_ids))
    assert recall.value == pytest.approx(np.mean(shares))
    assert recall.value < 1
    assert answer.index_bytes > problem.documents.vectors.size * 4


def test_the_candidate_recall_of_a_large_corpus_is_measured_on_a_sample(monkeypatch):
    monkeypatch.setattr(search_module, "EXACT_MULTIPLY_ADDS", 1)
    monkeypatch.setattr(search_module, "LEAST_SAMPLE", 3)
    problem, _, _ = random_problem(2)
    answer = search(problem, SearchSettings("Flat", None, 10**6), CPU)
    assert answer.index.candidate_recall == CandidateRecall(at=10, value=1.0, queries=3)


def test_of_a_querys_candidates_four_times_the_depth_are_scored_unless_told():
    def most(**values):
        return search_settings(EvalConfig(datasets=["pydocs"], depth=50, measures=["nDCG@10"], **values)).max_candidates

    assert most() == 200
    assert most(max_candidates=70) == 70


def test_what_was_searched_is_told():
    problem, _, _ = random_problem(2)
    exact = search(problem, SearchSettings("exact", None, 7), CPU)
    assert exact.index == IndexFacts(kind="exact", depth=10)
    assert exact.index_bytes == 0
    inverted = search(problem, SearchSettings("IVF4,Flat", 2, 7), CPU).index
    assert (inverted.kind, inverted.factory, inverted.nprobe, inverted.candidates_per_token) == (
        "faiss",
        "IVF4,Flat",
        2,
        7,
    )


def sized_problem(query_tokens, document_tokens, width):
    """A problem of this size whose vectors take no memory."""
    queries = TokenStore(np.broadcast_to(np.float16(0), (query_tokens, width)), np.array([0, query_tokens]))
    documents = TokenStore(np.broadcast_to(np.float16(0), (document_tokens, width)), np.array([0, document_tokens]))
    return make_problem(queries, documents, ["q"], ["d"], depth=100)


@pytest.mark.parametrize(
    "query_tokens, document_tokens, chosen",
    [
        (300 * 32, 200_000, "exact"),
        (300 * 48, 815_632, "exact"),
        (78_125, 1_000_000, "exact"),
        (78_126, 1_000_000, "IVF2048,SQfp16"),
        (7_000 * 32, 1_000_000, "IVF2048,SQfp16"),
        (7_000 * 32, 800_000_000, "IVF65536,SQfp16"),
        # Building: 10 rounds of k-means over 64 vectors a list, then every vector to its list.
        (300 * 32, 10_000_000, "exact"),
        (8192 + 10 * 64 * 8192 * 8192 // 10_000_000, 10_000_000, "exact"),
        (8192 + 10 * 64 * 8192 * 8192 // 10_000_000 + 1, 10_000_000, "IVF8192,SQfp16"),
        (300 * 32, 800_000_000, "exact"),
        # Four times the square root of 2^20 is 2^12.
        (1_000_000, 2**20, "IVF4096,SQfp16"),
        (1_000_000, 2**20 - 1, "IVF2048,SQfp16"),
    ],
)
def test_auto_is_exact_for_little_work_and_where_an_index_takes_more(query_tokens, document_tokens, chosen):
    assert choose_index("auto", sized_problem(query_tokens, document_tokens, 128)) == chosen


def test_an_index_that_is_asked_for_is_taken_as_it_is():
    problem = sized_problem(10**6, 10**9, 128)
    assert choose_index("exact", problem) == "exact"
    assert choose_index("HNSW32", problem) == "HNSW32"


@pytest.mark.parametrize(
    "factory, nprobe, line",
    [
        ("nonsense", None, 'eval.index "nonsense": could not parse index string nonsense; examples: Flat'),
        ("IVF", None, 'eval.index "IVF": could not parse'),
        ("PQ7", None, "should be a multiple of the number of subquantizers"),
        ("LSH", None, 'eval.index "LSH": '),
        ("HNSW16", 4, 'eval.nprobe: an index "HNSW16" has no inverted lists'),
    ],
)
def test_an_index_that_cannot_be_is_one_clear_line(factory, nprobe, line):
    with pytest.raises(ProjheadsError) as raised:
        check_search(SearchSettings(factory, nprobe, 8), width=16)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)
    assert ".cpp" not in str(raised.value)


def test_a_corpus_too_small_for_its_index_is_one_clear_line():
    problem, _, _ = random_problem(0)
    with pytest.raises(ProjheadsError, match=r'eval\.index "IVF4096,Flat": Number of training points') as raised:
        search(problem, SearchSettings("IVF4096,Flat", None, 8), CPU)
    assert "\n" not in str(raised.value)


def test_an_inverted_file_visits_one_list_in_32_and_at_least_8_unless_told():
    problem, _, _ = random_problem(0, documents=400)
    assert build_index(problem.documents, "IVF512,Flat", None, CPU).nprobe == 16
    assert build_index(problem.documents, "IVF310,Flat", None, CPU).nprobe == 9
    assert build_index(problem.documents, "IVF320,Flat", None, CPU).nprobe == 10
    assert build_index(problem.documents, "IVF16,Flat", None, CPU).nprobe == 8
    assert build_index(problem.documents, "IVF4,Flat", None, CPU).nprobe == 4
    assert build_index(problem.documents, "IVF16,Flat", 3, CPU).nprobe == 3


def test_exact_search_runs_where_faiss_is_not_installed(monkeypatch):
    real = builtins.__import__

    def without_faiss(name, *arguments, **named):
        if name.split(".")[0] == "faiss":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_faiss)
    problem, query_ids, document_ids = random_problem(1)
    for index in ("exact", "auto"):
        check_search(SearchSettings(index, None, 8), width=16)
        answer = search(problem, SearchSettings(index, None, 8), CPU)
        assert as_pairs(answer.rankings) == by_hand(problem, query_ids, document_ids)
    with pytest.raises(ProjheadsError, match="FAISS is not installed"):
        check_search(SearchSettings("Flat", None, 8), width=16)


def test_the_cap_keeps_the_candidates_of_the_best_approximate_scores():
    problem, query_ids, document_ids = random_problem(3, documents=60, depth=100)
    index = build_index(problem.documents, "Flat", None, CPU)
    similarities = problem.queries.vectors.astype(np.float64) @ problem.documents.vectors.astype(np.float64).T
    owner = np.repeat(np.arange(60), problem.documents.lengths)
    exact = by_hand(problem, query_ids, document_ids)
    capped = as_pairs(faiss_search(problem, index, candidates_per_token=12, max_candidates=5))
    for query, answer in enumerate(capped):
        rows = similarities[problem.queries.offsets[query] : problem.queries.offsets[query + 1]]
        guessed = {}
        for document in {int(owner[row]) for token in rows for row in np.argsort(-token)[:12]}:
            guessed[document] = 0.0
            for token in rows:
                hits = np.argsort(-token)[:12]
                own = [token[row] for row in hits if owner[row] == document]
                guessed[document] += max(own) if own else token[hits[-1]]
        guessed.pop(int(problem.own[query]), None)
        kept = sorted(guessed, key=lambda document: -guessed[document])[:5]
        assert answer == [pair for pair in exact[query] if pair[0] in kept]
        assert len(answer) == min(5, len(guessed))


def test_a_cap_that_nothing_reaches_changes_nothing():
    problem, _, _ = random_problem(4, documents=60)
    index = build_index(problem.documents, "IVF8,SQ8", None, CPU)
    free = as_pairs(faiss_search(problem, index, candidates_per_token=5))
    assert as_pairs(faiss_search(problem, index, candidates_per_token=5, max_candidates=60)) == free
    told = search(problem, SearchSettings("Flat", None, 5, 60), CPU).index
    assert told.max_candidates == 60
