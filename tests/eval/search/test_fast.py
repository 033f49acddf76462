"""Further searches: encodings against the formula and fastembed, PLAID and FAISS against exact search."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import eval.search.fde as fde_module
from eval.__main__ import main
from eval.evaluate import evaluate_experiment
from eval.search.choice import SearchSettings
from eval.search.exact import exact_search
from eval.search.fast import KINDS, Found, Setup, fast_search, rescored
from eval.search.fde import FixedEncoder, fde_rankings
from eval.search.ranking import Problem
from experiment.config.search_forms import SEARCHES, SearchKind, parse_search
from experiment.console.command import run_command
from experiment.console.progress import Progress
from experiment.encoding.store import TokenStore, offsets_of

SMALL = {"k_sim": 3, "reps": 4, "projection": 8, "final": 0}
WIDTH = 24


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def make_store(seed, lengths):
    """Clustered unit vectors, float16."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((40, WIDTH))
    rows = centres[generator.integers(40, size=sum(lengths))] + 0.4 * generator.standard_normal((sum(lengths), WIDTH))
    return TokenStore(unit(rows), offsets_of(np.array(lengths)))


def make_problem(documents=300, queries=15, depth=10):
    """Queries are noisy copies of token vectors of one document each; the first has no token vector."""
    generator = np.random.default_rng(0)
    store = make_store(2, generator.integers(0, 30, size=documents).tolist())
    rows = [np.zeros((0, WIDTH), np.float16)]
    texts = np.flatnonzero(store.lengths > 3)[: queries - 1]
    for text in texts:
        chosen = generator.choice(store[int(text)], size=generator.integers(1, 9)).astype(np.float64)
        rows.append(unit(chosen + 0.1 * generator.standard_normal(chosen.shape)))
    own = np.full(queries, -1)
    own[2] = texts[1]  # the third query never finds the document that it copies
    lengths = np.array([len(one) for one in rows])
    return Problem(
        TokenStore(np.concatenate(rows), offsets_of(lengths)), store, depth, generator.permutation(documents), own
    )


def best_found(problem, rankings):
    """The share of queries whose best document by exact search is in a ranking."""
    exact = exact_search(problem, device=torch.device("cpu"))
    pairs = [(one, other) for one, other in zip(exact, rankings, strict=True) if len(one.documents)]
    return np.mean([one.documents[0] in other.documents for one, other in pairs])


def setup(name, tmp_path, candidates=40):
    settings = SearchSettings("exact", None, 64, candidates)
    return Setup(parse_search(name), settings, torch.device("cpu"), tmp_path, lambda share: None)


def encoded_by_formula(encoder, rows, *, document):
    """Part by part, in float64, as the paper writes it."""
    result = []
    k_sim = encoder.planes.shape[1] // encoder.reps
    for repetition in range(encoder.reps):
        planes = encoder.planes[:, repetition * k_sim : (repetition + 1) * k_sim].numpy()
        signs = rows @ planes > 0
        for part in range(2**k_sim):
            bits = np.array([part >> bit & 1 for bit in range(k_sim)], bool)
            inside = (signs == bits).all(axis=1)
            value = rows[inside].sum(axis=0)
            if document and inside.any():
                value = value / inside.sum()
            elif document:
                codes = (signs * (1 << np.arange(k_sim))).sum(axis=1)
                distances = (signs != bits).sum(axis=1)
                value = rows[min(range(len(rows)), key=lambda place: (distances[place], codes[place], place))]
            if encoder.projections is not None:
                first = repetition * encoder.numbers
                value = value @ encoder.projections[:, first : first + encoder.numbers].double().numpy()
            result.append(value)
    return np.concatenate(result)


@pytest.mark.parametrize("options", [SMALL, {**SMALL, "k_sim": 1, "projection": WIDTH}])
def test_an_encoding_is_what_the_formula_gives(options):
    encoder = FixedEncoder.draw(WIDTH, options)
    store = make_store(3, [1, 2, 5, 40])
    for document in (True, False):
        found = encoder(store.vectors, store.lengths, documents=document).numpy()
        assert found.shape == (4, options["reps"] * 2 ** options["k_sim"] * options["projection"]) == (4, encoder.size)
        for text, row in enumerate(found):
            expected = encoded_by_formula(encoder, store[text].astype(np.float64), document=document)
            np.testing.assert_allclose(row, expected, atol=1e-6)


@pytest.mark.parametrize("options", [SMALL, {"k_sim": 5, "reps": 20, "projection": 16, "final": 0}])
def test_an_encoding_is_fastembeds(options):
    muvera = pytest.importorskip("fastembed.postprocess.muvera")
    theirs = muvera.Muvera(WIDTH, options["k_sim"], options["projection"], options["reps"])
    encoder, store = FixedEncoder.draw(WIDTH, options), make_store(3, [1, 2, 5, 40])
    for document, process in ((True, theirs.process_document), (False, theirs.process_query)):
        found = encoder(store.vectors, store.lengths, documents=document).numpy()
        for text, row in enumerate(found):
            np.testing.assert_allclose(row, process(store[text].astype(np.float64)), atol=1e-6)


def test_the_draws_are_fixed_and_scaled_to_keep_inner_products():
    """The first numbers that fastembed 0.9.1 draws for these settings."""
    encoder = FixedEncoder.draw(WIDTH, SMALL)
    np.testing.assert_allclose(encoder.planes[0, :3], [0.30471708, -1.03998411, 0.7504512], atol=1e-8)
    assert set(np.unique(encoder.projections)) == {np.float32(-1 / np.sqrt(8)), np.float32(1 / np.sqrt(8))}


def test_a_count_sketch_adds_numbers_up_in_places_with_signs():
    plain, final = FixedEncoder.draw(WIDTH, SMALL), FixedEncoder.draw(WIDTH, {**SMALL, "final": 50})
    store = make_store(3, [7, 9])
    places, flips = (one.numpy() for one in final.sketch)
    assert sorted(set(flips)) == [-1, 1]
    assert set(places) <= set(range(50))
    matrix = np.zeros((plain.size, 50))
    matrix[np.arange(plain.size), places] = flips
    expected = plain(store.vectors, store.lengths, documents=True).double().numpy() @ matrix
    np.testing.assert_allclose(final(store.vectors, store.lengths, documents=True), expected, atol=1e-5)


def test_the_search_ranks_by_inner_products_of_the_encodings(tmp_path):
    problem = make_problem()
    encoder = FixedEncoder.draw(WIDTH, SMALL)
    rankings, numbers = fde_rankings(problem, SMALL, 40, tmp_path, lambda share: None)
    assert numbers == 256
    assert len(rankings[0].documents) == 0  # a query without a token vector
    has = np.flatnonzero(problem.documents.lengths > 0)
    documents = encoder(problem.documents.vectors, problem.documents.lengths[has], documents=True).double().numpy()
    for query in range(1, len(problem.queries)):
        rows = problem.queries[query]
        encoded = encoder(rows, np.array([len(rows)]), documents=False).double().numpy()[0]
        scores = dict(zip(has.tolist(), documents @ encoded, strict=True))
        scores.pop(int(problem.own[query]), None)
        expected = sorted(scores, key=lambda one: -scores[one])[:40]
        assert rankings[query].documents.tolist() == expected
        np.testing.assert_allclose(rankings[query].scores, [scores[one] for one in expected], atol=1e-5)
    assert not list(tmp_path.iterdir())


def test_the_same_search_and_small_blocks_find_the_same(tmp_path, monkeypatch):
    problem = make_problem()
    once, _ = fde_rankings(problem, SMALL, 40, tmp_path, lambda share: None)
    for one, other in zip(once, fde_rankings(problem, SMALL, 40, tmp_path, lambda share: None)[0], strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
    monkeypatch.setattr(fde_module, "WORK", 2**12)
    monkeypatch.setattr(fde_module, "QUERIES", 4)
    shares = []
    again, _ = fde_rankings(problem, SMALL, 40, tmp_path, shares.append)
    assert len(shares) > 10
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one.documents, other.documents)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_many_repetitions_and_parts_find_what_exact_search_finds(tmp_path):
    problem = make_problem()
    few, many = (
        best_found(problem, fast_search(problem, setup(name, tmp_path, candidates=10)).rankings)
        for name in ("fde(k_sim=1, reps=1, projection=4)", "fde(k_sim=5, reps=20, projection=16)")
    )
    assert few < 0.6 < 0.9 < many


def test_all_documents_scored_exactly_are_the_exact_search(tmp_path):
    problem = make_problem()
    exact = exact_search(problem, device=torch.device("cpu"))
    for name in ("fde(k_sim=2, reps=2, projection=4)", "centred-fde(k_sim=2, reps=2, projection=4)"):
        found = fast_search(problem, setup(name, tmp_path, candidates=300)).rankings
        for one, other in zip(exact, rescored(problem, found), strict=True):
            np.testing.assert_array_equal(one.documents, other.documents)
            np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("name", ["fde", "centred-fde", "plaid", "IVF4,Flat"])
def test_no_search_finds_any_of_several_documents_that_are_excluded_for_a_query(name, tmp_path):
    """Some collections exclude several documents for a query; here, the best that the query would find."""
    if name == "plaid":
        pytest.importorskip("fast_plaid")
    problem = make_problem()
    free = fast_search(replace(problem, own=np.full(len(problem.queries), -1)), setup(name, tmp_path)).rankings
    excluded = np.full((len(problem.queries), 3), -1)
    for query, ranking in enumerate(free):
        excluded[query, : len(ranking.documents[:3])] = ranking.documents[:3]
    found = fast_search(replace(problem, own=excluded), setup(name, tmp_path)).rankings
    for one, ranking, hidden in zip(free[1:], found[1:], excluded[1:], strict=True):
        assert len(one.documents) > 3
        assert len(ranking.documents) > 0
        assert not np.isin(ranking.documents, hidden).any()


def test_centring_mends_encodings_of_vectors_in_a_narrow_cone(tmp_path):
    """All vectors near one direction fall into few parts, where their means are alike."""
    problem = make_problem()
    cone = []
    for store in (problem.queries, problem.documents):
        cone.append(TokenStore(unit(store.vectors.astype(np.float64) + 4.0 * np.eye(WIDTH)[0]), store.offsets))
    problem = Problem(*cone, problem.depth, problem.priority, problem.own)
    plain, centred = (
        best_found(problem, fast_search(problem, setup(name, tmp_path, candidates=10)).rankings)
        for name in ("fde", "centred-fde")
    )
    assert plain < 0.6 < 0.9 < centred


@pytest.mark.skipif(importlib.util.find_spec("fast_plaid") is None, reason="fast-plaid comes with PyLate")
def test_plaid_finds_what_exact_search_finds_and_the_same_again(tmp_path):
    problem = make_problem()
    exact = exact_search(problem, device=torch.device("cpu"))
    before = torch.random.get_rng_state()
    found = fast_search(problem, setup("plaid", tmp_path))
    torch.testing.assert_close(torch.random.get_rng_state(), before)
    torch.rand(1)  # the global generator does not matter
    again = fast_search(problem, setup("plaid", tmp_path))
    assert len(found.rankings[0].documents) == 0
    assert problem.own[2] not in found.rankings[2].documents
    for one, other, best in zip(found.rankings[1:], again.rankings[1:], exact[1:], strict=True):
        np.testing.assert_array_equal(one.documents, other.documents)
        np.testing.assert_array_equal(one.scores, other.scores)
        assert np.isin(best.documents, one.documents).mean() >= 0.5
        # 4 bits a number: scores are near the exact ones.
        np.testing.assert_allclose(one.scores[:5], best.scores[:5], rtol=0.15)
    assert found.index_bytes > len(problem.documents.vectors) * WIDTH // 2
    assert not list(tmp_path.iterdir())


def test_an_index_of_faiss_ranks_its_candidates_exactly(tmp_path):
    problem = make_problem()
    exact = exact_search(problem, device=torch.device("cpu"))
    found = fast_search(problem, setup("IVF4,Flat", tmp_path, candidates=300))
    for one, other in zip(exact, found.rankings, strict=True):
        shared = np.isin(one.documents, other.documents)
        assert shared.sum() >= 0.8 * len(shared)
        assert set(one.scores[shared].tolist()) <= set(other.scores.tolist())


def test_a_new_search_is_one_entry_and_its_function(tmp_path, monkeypatch):
    monkeypatch.setitem(SEARCHES, "none", SearchKind("none", "finds nothing"))
    monkeypatch.setitem(KINDS, "none", lambda problem, setup: Found([], 1, 2))
    assert fast_search(make_problem(), setup("none", tmp_path)).index_bytes == 2


NAMES = ["fde(k_sim=2, reps=2, projection=4)", "centred-fde(k_sim=2, reps=2, projection=4)"]


def evaluate(config):
    with Progress() as progress:
        evaluate_experiment(config, progress)


def test_every_model_gets_two_entries_for_each_encoding_and_they_are_not_made_again(miniature, capsys):
    evaluate(miniature.config("eval.index=exact"))
    path = miniature.folder.trial("linear", 0).eval_json("odd")
    before = json.loads(path.read_text())
    searches = f"eval.searches={json.dumps([*NAMES, 'Flat'])}"
    evaluate(miniature.config("eval.index=exact", "eval.storage=[int8]", searches))
    record = json.loads(path.read_text())
    expected = ["int8", *(f"{name}{end}" for name in NAMES for end in ("", " rescored")), "Flat"]
    assert list(record["storage"]) == expected
    assert {name: value for name, value in record.items() if name != "storage"} == {
        name: value for name, value in before.items() if name != "storage"
    }
    for name, entry in record["storage"].items():
        assert 0 < entry["recall"] <= 1
        assert entry["per_query"].keys() == record["measures"]["nDCG@10"].keys()
        # 100 documents are found and scored exactly, and there are fewer.
        if name.endswith("rescored") or name == "Flat":
            assert (entry["recall"], entry["per_query"]) == (1, record["measures"]["nDCG@10"])
    assert record["storage"][NAMES[0]]["bytes_per_vector"] == 4 * 2 * 4 * 4
    capsys.readouterr()
    evaluate(miniature.config("eval.index=exact", "eval.storage=[int8]", searches))
    assert "nothing to do" in capsys.readouterr().out
    assert json.loads(path.read_text()) == record
    evaluate(miniature.config("eval.index=exact", "eval.storage=[int8]", searches, "eval.max_candidates=150"))
    after = json.loads(path.read_text())["storage"]
    keys = {name: (entry["key"], after[name]["key"]) for name, entry in record["storage"].items()}
    assert [name for name, (one, other) in keys.items() if one == other] == ["int8"]


@pytest.mark.parametrize(
    "name, line",
    [
        ("fdee", 'unknown search "fdee"; write fde, plaid, centred-fde, centred-plaid, or a FAISS index such as'),
        ("fde(k=4)", 'the search "fde(k=4)": unknown option "k"; known: final, k_sim, projection, reps'),
        ("fde(k_sim=9)", "k_sim must be an integer from 1 to 8, as in fde(k_sim=5)"),
        ("fde(reps=0)", "reps must be an integer from 1 to 256, as in fde(reps=20)"),
        ("fde(k_sim=8, reps=256, projection=64)", "an encoding has 4194304 numbers; at most 1048576 are possible"),
        ("IVF0x,Flat", 'eval.searches "IVF0x,Flat": '),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_search_that_cannot_be_is_one_clear_line_before_anything_is_encoded(
    miniature, fake_host, capsys, name, line, dry
):
    assert run_command(main, [str(miniature.yaml), f"eval.searches={json.dumps([name])}", *dry]) == 2
    assert line in capsys.readouterr().err
    assert fake_host.calls == 0


def test_a_missing_package_and_a_repeated_search_are_one_clear_line(miniature, capsys, monkeypatch):
    assert run_command(main, [str(miniature.yaml), "eval.searches=[fde, fde]"]) == 2
    assert 'the search "fde" is listed twice' in capsys.readouterr().err
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "fast_plaid" else real(name))
    assert run_command(main, [str(miniature.yaml), "eval.searches=[plaid]"]) == 2
    assert 'eval.searches "plaid": fast_plaid is not installed; install pylate, or remove it' in capsys.readouterr().err


KILLED_SEARCH = """
import os, signal, sys
from pathlib import Path
from experiment.disk.files import temporary_folder
with temporary_folder(Path(sys.argv[1]) / "plaid") as folder:
    (folder / "index").write_text("half an index")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_index_of_a_killed_search_is_cleared_by_the_next_command(miniature):
    config = miniature.config()
    subprocess.run([sys.executable, "-c", KILLED_SEARCH, str(config.cache)], cwd=Path(__file__).parents[3], check=False)
    assert list(config.cache.glob(".plaid.*/index"))
    evaluate(config)
    assert not list(config.cache.glob(".plaid.*"))
