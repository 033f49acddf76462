"""Bounds and constants of the search: cases in which the bound decides, and values against their formulas."""

from types import SimpleNamespace

import faiss
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import eval.search.choice as search_module
import eval.search.compressed as storage_module
import eval.search.exact as exact_module
import eval.search.faiss_index as approximate_module
from eval.measures import aggregate, measure_run
from eval.search.choice import SearchSettings, choose_index, search
from eval.search.compressed import check_forms, stored_as
from eval.search.exact import choose_first_pass, exact_search, score_all
from eval.search.faiss_index import TokenIndex, build_index, faiss_search, training_rows
from eval.search.ranking import Problem, priorities, rank, rounding_errors, shortlist
from experiment.bm25 import bm25_search
from experiment.config.storage_forms import parse_storage
from experiment.encoding.store import TokenStore, offsets_of
from projheads.errors import ProjheadsError

CPU = torch.device("cpu")
WIDTH = 16
U = 2.0**-24


def store(texts, dtype=np.float16):
    rows = np.concatenate([np.asarray(text, dtype) for text in texts])
    return TokenStore(rows, offsets_of(np.array([len(text) for text in texts], np.int64)))


def problem_of(queries, documents, depth, dtype=np.float16):
    names = [f"{number:03d}" for number in range(len(documents))]
    nobody = np.full(len(queries), -1)
    return Problem(store(queries, dtype), store(documents, dtype), depth, priorities(names), nobody)


def random_problem(seed, *, queries=6, documents=40, depth=5, dtype=np.float16):
    generator = np.random.default_rng(seed)

    def text(longest):
        return generator.normal(0, 1, (generator.integers(1, longest + 1), WIDTH)) * generator.uniform(0.3, 1.2)

    return problem_of([text(5) for _ in range(queries)], [text(7) for _ in range(documents)], depth, dtype)


def vector(first, second, mark=0.0):
    """A vector whose third number no query sees."""
    row = np.zeros(WIDTH)
    row[:3] = first, second, mark
    return row


@pytest.fixture
def worst_rounding(monkeypatch):
    """Let float32 products be off by as much as the bound allows, in the direction of each document's mark."""
    real = torch.mm

    def products(rows, columns, *, out=None):
        if rows.dtype != torch.float32:
            return real(rows, columns, out=out) if out is not None else real(rows, columns)
        rows, columns = rows.double(), columns.double()
        norms = rows.norm(dim=1)[:, None] * columns.norm(dim=0)
        marks = (rows[:, 2, None] + columns[2]).sign()
        result = (rows @ columns + 0.999 * (WIDTH + 4) * U * norms * marks).float()
        return result if out is None else out.copy_(result)

    monkeypatch.setattr(torch, "mm", products)


# Scores that differ by 2^-23, where products may be off by 2.5 times that.
CLOSE = [[vector(0.5, place * 2.0**-12, -(2.0**-10) if place == 50 else 2.0**-10)] for place in range(60)]
ASKED = [[vector(0.5, 2.0**-11)]]


@pytest.mark.parametrize("first_pass", ["fp32", "bf16"])
def test_the_worst_rounding_loses_no_document_of_the_exact_search(worst_rounding, first_pass):
    problem = problem_of(ASKED, CLOSE, depth=10)
    (found,) = exact_search(problem, device=CPU, first_pass=first_pass)
    assert found.documents.tolist() == list(range(59, 49, -1))
    assert found.scores.tolist() == [0.25 + place * 2.0**-23 for place in range(59, 49, -1)]


def test_the_worst_rounding_loses_no_document_of_the_approximate_search(worst_rounding):
    problem = problem_of(ASKED, CLOSE, depth=10)
    (found,) = faiss_search(problem, build_index(problem.documents, "Flat", None, CPU), candidates_per_token=100)
    assert found.documents.tolist() == list(range(59, 49, -1))


@pytest.mark.parametrize("place", range(20, 40))
def test_the_worst_rounding_changes_no_reported_score(worst_rounding, place):
    """A document's best token vector scores below its second best."""
    best, second = vector(0.5, place * 2.0**-12, -(2.0**-12)), vector(0.5, (place - 1) * 2.0**-12, 2.0**-12)
    problem = problem_of([[vector(0.375, 2.0**-14)]], [[second, best, second], [second], [best, second]], depth=3)
    found = rank(problem, 0, np.arange(3))
    exact = 0.1875 + place * 2.0**-26
    assert dict(zip(found.documents.tolist(), found.scores.tolist(), strict=True)) == {
        0: exact,
        1: exact - 2.0**-26,
        2: exact,
    }


def test_a_document_that_bf16_rounds_below_the_floor_is_found():
    high = 1 + 3 * 2.0**-10  # in bf16, it is 1
    problem = problem_of([[[1.0]]], [[[0.5]], [[high]], [[0.25]]], depth=2)
    floors = np.array([high], np.float32)
    (found,) = exact_search(problem, device=CPU, first_pass="bf16", floors=floors)
    assert (found.documents.tolist(), found.scores.tolist()) == ([1], [high])


def test_the_error_of_float32_is_highams_bound():
    problem = random_problem(0)
    queries = np.array([4, 0, 2])
    expected = [
        (WIDTH + len(rows) + 4) * U * sum(np.sqrt(np.sum(np.float64(row) ** 2)) for row in rows) * 1.5
        for rows in (problem.queries[query] for query in (4, 0, 2))
    ]
    assert rounding_errors(problem, queries, 1.5) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("how", ["fp32", "bf16", "fused"])
def test_the_error_of_the_first_pass_is_the_sum_of_what_is_rounded(how, dtype, monkeypatch):
    monkeypatch.setattr(exact_module, "maxsim", lambda q, d, backend: torch.zeros(len(q), len(d)))
    problem = random_problem(1, dtype=dtype)
    queries = np.argsort(-problem.queries.lengths, kind="stable")
    _, _, errors = score_all(problem, queries, 5, CPU, how, lambda share: None)
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fused": torch.float16}[how]

    def norms(rows):
        return np.sqrt(np.square(np.float64(rows)).sum(axis=1))

    stored = problem.documents.vectors
    rounded = torch.tensor(stored).to(kind).double().numpy()
    lost = norms(np.float64(stored) - rounded).max()
    norm = norms(stored).max()
    for query, error in zip(queries, errors, strict=True):
        rows = problem.queries[int(query)]
        own = norms(rows)
        bound = (WIDTH + len(rows) + 4) * U * own.sum() * norm
        residuals = norms(np.float64(rows) - torch.tensor(rows).to(torch.bfloat16).double().numpy())
        in_bf16 = residuals * norm + (own + residuals) * lost + 2.0**-8 * (own + residuals) * (norm + lost)
        assert error == pytest.approx(
            {"fp32": bound, "fused": 4 * bound, "bf16": 2 * bound + in_bf16.sum()}[how], rel=1e-6
        )


def test_the_first_pass_keeps_the_best_documents_with_their_scores(monkeypatch):
    problem = random_problem(2, documents=30)
    queries = np.argsort(-problem.queries.lengths, kind="stable")
    texts = [problem.documents[place].astype(np.float64) for place in range(30)]
    every = {
        int(query): np.array([(problem.queries[int(query)] @ text.T).max(axis=1).sum() for text in texts])
        for query in queries
    }
    monkeypatch.setattr("experiment.encoding.windows.SEARCHED_BYTES", 2**11)
    scores, documents, _ = score_all(problem, queries, 12, CPU, "fp32", lambda share: None)
    for row, query in enumerate(queries):
        assert set(documents[row].tolist()) == set(np.argsort(-every[int(query)])[:12].tolist())
        np.testing.assert_allclose(scores[row], every[int(query)][documents[row]], rtol=1e-5)
    scores, documents, _ = score_all(problem, queries, 33, CPU, "fp32", lambda share: None)
    assert (scores == -np.inf).sum(axis=1).tolist() == [3] * 6
    assert (documents[scores == -np.inf] == -1).all()


def test_a_shortlist_holds_what_two_errors_reach_and_nothing_more():
    scores = np.array([-np.inf, 2.0, 1.0, 0.75, 0.749, 0.0])
    assert shortlist(scores, 2, 0.125).tolist() == [1, 2, 3]
    assert shortlist(scores, 1, 0.125).tolist() == [1]
    assert shortlist(scores, 5, 0.0).tolist() == shortlist(scores, 9, 0.0).tolist() == [1, 2, 3, 4, 5]
    assert shortlist(scores, 4, 0.0).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(("first_pass", "expected"), [("fp32", [33, 264, 500]), ("bf16", [40, 33, 264, 500])])
def test_what_is_left_open_is_searched_again_with_more_documents(first_pass, expected, monkeypatch):
    kept = []
    real = exact_module.score_all
    monkeypatch.setattr(exact_module, "score_all", lambda *given: kept.append(given[2]) or real(*given))
    problem = problem_of(ASKED, [[vector(0.5, 0.25)]] * 500, depth=5)
    (found,) = exact_search(problem, device=CPU, first_pass=first_pass)
    assert kept == expected
    assert found.documents.tolist() == [499, 498, 497, 496, 495]


def test_only_queries_that_are_left_open_are_searched_again(monkeypatch):
    asked = []
    real = exact_module.score_all
    monkeypatch.setattr(exact_module, "score_all", lambda *given: asked.append(given[1].tolist()) or real(*given))
    # The second query sees only the second number, in which the documents lie far apart.
    documents = [[vector(0.5, place / 64)] for place in range(60)]
    problem = problem_of([[vector(1.0, 0.0)], [vector(0.0, 1.0)]], documents, depth=5)
    found = exact_search(problem, device=CPU, first_pass="fp32")
    assert [one.documents.tolist() for one in found] == [[59, 58, 57, 56, 55]] * 2
    assert asked == [[0, 1], [0]]


def test_seconds_are_those_of_the_index_and_of_the_search(monkeypatch):
    clock = iter([100.0, 104.0, 115.0, 1.0, 4.0])
    monkeypatch.setattr(search_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    problem = random_problem(3)
    answer = search(problem, SearchSettings("Flat", None, 3), CPU)
    assert (answer.index_s, answer.search_s) == (4.0, 11.0)
    answer = search(problem, SearchSettings("exact", None, 3), CPU)
    assert (answer.index_s, answer.search_s) == (0.0, 3.0)


@pytest.mark.parametrize(
    ("least", "affordable", "sample"), [(3, 0, (0, 2, 4)), (1, 5, (0, 1, 2, 4, 5)), (1, 99, range(7))]
)
def test_the_candidate_recall_is_that_of_evenly_spaced_queries(least, affordable, sample, monkeypatch):
    problem = random_problem(4, queries=7)
    work = problem.multiply_adds
    assert work == len(problem.queries.vectors) * len(problem.documents.vectors) * WIDTH
    monkeypatch.setattr(search_module, "LEAST_SAMPLE", least)
    monkeypatch.setattr(search_module, "EXACT_MULTIPLY_ADDS", -(-affordable * work // 7))
    answer = search(problem, SearchSettings("Flat", None, 1), CPU)
    exact = exact_search(problem, device=CPU)
    shares = [len(set(exact[q].documents) & set(answer.rankings[q].documents)) / 5 for q in sample]
    recall = answer.index.candidate_recall
    assert (recall.queries, recall.value, recall.at) == (len(sample), pytest.approx(np.mean(shares)), 5)
    assert str(answer) == f"Flat, candidate recall@5 {recall.value:.4f}"


def test_the_candidate_recall_is_measured_on_twenty_queries_at_least(monkeypatch):
    monkeypatch.setattr(search_module, "EXACT_MULTIPLY_ADDS", 0)
    answer = search(random_problem(5, queries=25), SearchSettings("Flat", None, 3), CPU)
    assert answer.index.candidate_recall.queries == 20


def test_an_index_is_trained_on_64_vectors_a_list_and_65536_at_least():
    assert [training_rows(lists) for lists in (0, 1024, 1025, 4096)] == [65536, 65536, 65600, 262144]


def test_an_index_is_trained_on_vectors_drawn_without_replacement(monkeypatch):
    trained = []
    real = faiss.IndexIVFFlat.train
    monkeypatch.setattr(
        faiss.IndexIVFFlat, "train", lambda index, rows: trained.append(rows.copy()) or real(index, rows)
    )
    monkeypatch.setattr(approximate_module, "TRAINING_ROWS", 10)
    monkeypatch.setattr(approximate_module, "TRAINING_ROWS_PER_LIST", 40)
    documents = random_problem(6).documents
    build_index(documents, "IVF2,Flat", None, CPU)
    chosen = np.sort(np.random.default_rng(0).choice(len(documents.vectors), 80, replace=False))
    np.testing.assert_array_equal(trained[0], documents.vectors[chosen].astype(np.float32))
    build_index(documents, "IVF5,Flat", None, CPU)
    np.testing.assert_array_equal(trained[1], documents.vectors.astype(np.float32))
    assert 160 < len(documents.vectors) <= 200


@pytest.mark.parametrize(
    ("device", "gpus", "moved"), [("cuda:1", 2, [1]), ("cuda", 1, [0]), ("cuda", 0, []), ("cpu", 1, [])]
)
def test_an_index_is_put_on_the_gpu_where_there_is_one(device, gpus, moved, monkeypatch):
    numbers = []
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: gpus, raising=False)
    monkeypatch.setattr(faiss, "StandardGpuResources", SimpleNamespace, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda _, at, index: numbers.append(at) or index, raising=False)
    problem = random_problem(8)
    index = build_index(problem.documents, "Flat", None, torch.device(device))
    assert (numbers, index.on_gpu) == (moved, bool(moved))
    # FAISS finds at most so many neighbours on a GPU.
    monkeypatch.setattr(approximate_module, "GPU_MOST_HITS", 2)
    few, many = (faiss_search(problem, index, candidates_per_token=count) for count in (2, 10**6))
    same = [a.documents.tolist() == b.documents.tolist() for a, b in zip(few, many, strict=True)]
    assert all(same) == bool(moved)


@pytest.mark.parametrize(("candidates", "scored"), [(7, 7), (None, 40), (39, 39)])
def test_most_candidates_are_scored(candidates, scored, monkeypatch):
    seen = []
    real = approximate_module.rank
    monkeypatch.setattr(
        approximate_module, "rank", lambda p, q, documents: seen.append(len(documents)) or real(p, q, documents)
    )
    problem = random_problem(9, depth=20)
    index = build_index(problem.documents, "Flat", None, CPU)
    faiss_search(problem, index, candidates_per_token=10**6, max_candidates=candidates)
    assert seen == [scored] * 6


def test_a_code_is_trained_on_vectors_drawn_without_replacement(monkeypatch, tmp_path):
    monkeypatch.setattr(storage_module, "TRAINING_ROWS", 50)
    problem = random_problem(10)
    rows = problem.documents.vectors.astype(np.float64)
    sample = rows[np.random.default_rng(0).choice(len(rows), 50, replace=False)]
    low, high = sample.min(axis=0), sample.max(axis=0)
    with stored_as(parse_storage("int8"), problem.queries, problem.documents, tmp_path) as stored:
        found = np.array(stored.documents.vectors)
    expected = low + (np.clip(np.floor((rows - low) / (high - low) * 255), 0, 255) + 0.5) / 255 * (high - low)
    np.testing.assert_allclose(found, expected, atol=2**-8)


def test_a_cut_vector_of_zeros_stays_zero(tmp_path):
    documents = store([[np.r_[np.zeros(8), np.ones(8)]], [np.r_[np.full(8, 0.5), np.ones(8)]]])
    with stored_as(parse_storage("dim8"), documents, documents, tmp_path) as stored:
        found = np.array(stored.documents.vectors)
    np.testing.assert_allclose(found, [np.zeros(8), np.full(8, 8**-0.5)], atol=2**-11)


def test_where_there_is_nothing_to_find_nothing_is_found():
    nothing = TokenStore(np.zeros((0, WIDTH), np.float16), np.zeros(4, np.int64))
    asked = random_problem(11)
    for queries, documents in ((asked.queries, nothing), (nothing, asked.documents), (nothing, nothing)):
        names = [f"{number:03d}" for number in range(len(documents))]
        problem = Problem(queries, documents, 5, priorities(names), np.full(len(queries), -1))
        found = faiss_search(problem, build_index(documents, "Flat", None, CPU), candidates_per_token=3)
        assert [len(one.documents) for one in found] == [0] * len(queries)
        assert exact_search(problem, device=CPU) == found


@pytest.mark.parametrize(
    ("dtype", "refused", "chosen"), [("float16", False, "fused"), ("float32", False, "fp32"), ("float16", True, "fp32")]
)
def test_the_first_pass_on_a_gpu_is_the_fused_kernel_where_it_can_run(dtype, refused, chosen, monkeypatch):
    shapes = []

    def kernel(queries, documents, *, backend):
        shapes.append((tuple(queries.shape), tuple(documents.shape), queries.dtype, backend))
        if refused:
            raise ProjheadsError("cannot run")

    monkeypatch.setattr(exact_module, "maxsim", kernel)
    problem = random_problem(12, dtype=np.dtype(dtype).type)
    with FakeTensorMode():
        assert choose_first_pass(torch.device("cuda"), problem.documents) == chosen
    assert shapes == [((1, 1, WIDTH), (1, 1, WIDTH), torch.float16, "fused")]


def test_an_empty_corpus_is_searched_exactly():
    empty = TokenStore(np.zeros((0, WIDTH), np.float16), np.zeros(2, np.int64))
    problem = Problem(random_problem(13).queries, empty, 5, priorities(["d"]), np.full(6, -1))
    assert choose_index("auto", problem) == "exact"
    assert search(problem, SearchSettings("Flat", None, 3), CPU).index.candidate_recall.value == 1.0


def test_batches_are_filled_with_queries_up_to_the_number_of_hits(monkeypatch):
    problem = random_problem(17, queries=12)
    monkeypatch.setattr(approximate_module, "HITS", 21)
    expected, size = [0], 0
    for length in problem.queries.lengths:
        # 21 hits, three for each query token.
        if size + length > 7 and size:
            expected.append(0)
            size = 0
        size += length
        expected[-1] += 1
    shares = []
    index = build_index(problem.documents, "Flat", None, CPU)
    faiss_search(problem, index, candidates_per_token=3, progress=shares.append)
    assert [round(12 * share) for share in shares] == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("most", [3, 8])
def test_a_token_without_a_hit_counts_its_worst_hit_and_one_without_any_nothing(most):
    """Of the lists that are visited only some documents are known, and FAISS fills up with -1."""
    problem = random_problem(15, depth=30)
    index = build_index(problem.documents, "IVF12,Flat", 1, CPU)
    total = len(problem.documents.vectors)
    owner = np.repeat(np.arange(40), problem.documents.lengths)
    found = faiss_search(problem, index, candidates_per_token=total, max_candidates=most)
    open_ones = 0
    for query, answer in enumerate(found):
        guessed = {}
        similarities, hits = index.index.search(problem.queries[query].astype(np.float32), total)
        assert (hits == -1).any()
        for document in {int(owner[hit]) for row in hits for hit in row if hit >= 0}:
            guessed[document] = 0.0
            for values, row in zip(similarities, hits, strict=True):
                known = [(float(value), owner[hit]) for value, hit in zip(values, row, strict=True) if hit >= 0]
                own = [value for value, of in known if of == document]
                guessed[document] += max(own) if own else min((value for value, _ in known), default=0.0)
        best = sorted(guessed, key=lambda document: -guessed[document])[:most]
        assert sorted(answer.documents.tolist()) == sorted(best)
        open_ones += len(guessed) > most
    assert open_ones > 3


def test_a_query_finds_no_document_of_its_own_id():
    problem = random_problem(16, depth=40)
    own = Problem(problem.queries, problem.documents, 40, problem.priority, np.array([0, 7, -1, 39, -1, 1]))
    index = build_index(problem.documents, "Flat", None, CPU)
    for found in (exact_search(own, device=CPU), faiss_search(own, index, candidates_per_token=10**6)):
        for query, answer in enumerate(found):
            assert set(range(40)) - set(answer.documents.tolist()) == {int(own.own[query])} - {-1}


def test_a_query_finds_none_of_the_documents_that_its_collection_excludes():
    problem = random_problem(16, depth=40)
    hidden = np.array([[0, 3, 9], [7, -1, -1], [-1, 5, -1], [39, 38, -1], [-1, -1, -1], [1, 2, -1]])
    left_out = Problem(problem.queries, problem.documents, 40, problem.priority, hidden)
    index = build_index(problem.documents, "Flat", None, CPU)
    for found in (exact_search(left_out, device=CPU), faiss_search(left_out, index, candidates_per_token=10**6)):
        for answer, excluded in zip(found, hidden, strict=True):
            assert set(range(40)) - set(answer.documents.tolist()) == set(excluded.tolist()) - {-1}
    texts = [f"word{number % 3} common" for number in range(40)]
    options = {"depth": 40, "priority": -np.arange(40), "own": hidden}
    for (documents, _), excluded in zip(bm25_search(["common word1"] * 6, texts, **options), hidden, strict=True):
        assert set(range(40)) - set(documents.tolist()) == set(excluded.tolist()) - {-1}


def test_forms_are_checked_before_anything_is_encoded(monkeypatch):
    with pytest.raises(ProjheadsError, match="has 16 numbers, not 17"):
        check_forms(["dim17"], WIDTH)
    assert [form.width for form in check_forms(["dim15", "fp16"], WIDTH)] == [15, None]

    def missing():
        raise ProjheadsError("FAISS is not installed")

    monkeypatch.setattr(storage_module, "faiss_library", missing)
    assert len(check_forms(["dim15", "fp16"], WIDTH)) == 2
    with pytest.raises(ProjheadsError, match="FAISS is not installed"):
        check_forms(["fp16", "int8"], WIDTH)


def test_gains_are_at_most_a_million():
    """trec_eval takes 8 bytes for each number up to the highest gain: 8 GB for 2^30."""
    qrels, run = {"q": {"d": 1, "e": 0}}, {"q": [("e", 2.0), ("d", 1.0)]}
    name = f"nDCG(gains={{1:{2**20}}})@10"
    assert measure_run([name], qrels, run)[name]["q"] == pytest.approx(1 / np.log2(3))
    with pytest.raises(ProjheadsError, match=r"gains must be at most 2\^20"):
        measure_run([f"nDCG(gains={{1:{2**20 + 1}}})@10"], qrels, run)


def test_a_query_without_an_answer_counts_nothing():
    qrels = {"a": {"d": 1}, "b": {"d": 1}, "c": {"d": 1}}
    found = measure_run(["RR@10", "NumRet"], qrels, {"a": [("e", 3.0), ("d", 2.0)], "b": [], "x": [("d", 1.0)]})
    assert found == {"RR@10": {"a": 0.5, "b": 0.0, "c": 0.0}, "NumRet": {"a": 2.0, "b": 0.0, "c": 0.0}}
    assert [aggregate(name, found[name]) for name in found] == [pytest.approx(0.5 / 3), 2.0]


def test_no_documents_are_no_ranking():
    problem = random_problem(18)
    nobody = np.zeros(0, np.int64)
    assert [len(part) for part in (rank(problem, 0, nobody).documents, rank(problem, 0, nobody).scores)] == [0, 0]


def greedy(lengths, most):
    """Numbers of rows of consecutive groups of texts, of at most so many rows or of a single text."""
    groups = [0]
    for length in lengths.tolist():
        if groups[-1] and groups[-1] + length > most:
            groups.append(0)
        groups[-1] += length
    return groups


@pytest.mark.parametrize("rows", [1, 9, 32, 33])
def test_a_window_is_as_large_as_the_limit_allows(rows, monkeypatch):
    monkeypatch.setattr("experiment.encoding.windows.SEARCHED_BYTES", rows * 4 * WIDTH)
    problem = random_problem(19)
    shares = []
    exact_search(problem, device=CPU, progress=shares.append)
    total = len(problem.documents.vectors)
    assert [round(share * total) for share in shares] == greedy(problem.documents.lengths, rows)


def test_a_second_pass_makes_no_further_progress():
    shares = []
    problem = problem_of(ASKED, [[vector(0.5, 0.25)]] * 100, depth=5)
    exact_search(problem, device=CPU, progress=shares.append, first_pass="fp32")
    assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize(("resources", "asked", "found"), [(object(), 3000, 2048), (None, 3000, 2500), (None, 7, 7)])
def test_as_many_neighbours_are_asked_for_as_there_are_and_faiss_allows(resources, asked, found):
    """On a GPU FAISS finds 2048 at most."""
    numbers = []

    def nothing(rows, count):
        numbers.append(count)
        return np.zeros((len(rows), 1), np.float32), np.full((len(rows), 1), -1)

    problem = problem_of([[vector(1.0, 0.0)]], [[vector(0.5, 0.25)] * 2500], depth=5)
    index = TokenIndex(SimpleNamespace(search=nothing), None, resources)
    assert len(faiss_search(problem, index, candidates_per_token=asked)[0].documents) == 0
    assert numbers == [found]


def test_the_error_of_short_vectors_is_small():
    problem = problem_of([[vector(0.5, 0.0)]], [[vector(0.25, 0.0)], [vector(0.125, 0.0)]], depth=1)
    for how in ("fp32", "bf16"):
        _, _, errors = score_all(problem, np.array([0]), 1, CPU, how, lambda share: None)
        bound = (WIDTH + 1 + 4) * U * 0.5 * 0.25
        # These numbers are not rounded in bf16, their product may be.
        assert errors[0] == (bound if how == "fp32" else 2 * bound + 2.0**-8 * 0.5 * 0.25)
