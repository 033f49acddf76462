"""Diagnostics of geometry on made-up embeddings whose values the formulas give, and against plain computations."""

import itertools

import numpy as np
import pytest
import torch

from tests.eval.explain.made_up import given, values

WIDTH = 8
BASIS = np.eye(WIDTH)
ISOTROPIC = [[sign * BASIS[place] for sign in (1, -1)] for place in range(WIDTH)]
COLLAPSED = [[BASIS[0]] * 3 for _ in range(4)]
CLUSTERS = [[BASIS[0]] * 4, [BASIS[1]] * 4]


def dominant():
    """Every direction but the first has a hundredth of its variance; rows are not of norm 1."""
    scales = np.array([1.0, *[0.1] * (WIDTH - 1)])
    return [[sign * scales[place] * BASIS[place] for sign in (1, -1)] for place in range(WIDTH)]


def random(seed=0, texts=12, width=WIDTH):
    generator = np.random.default_rng(seed)
    drawn = [
        generator.normal(0.3, 1.0, (generator.integers(1, 9), width)) * np.linspace(1, 3, width) for _ in range(texts)
    ]
    # As float32, which is what the store keeps.
    return [(one / np.linalg.norm(one, axis=1, keepdims=True)).astype(np.float32) for one in drawn]


def flat(texts):
    return np.concatenate([np.asarray(text, np.float64) for text in texts])


def isoscore_of(variances):
    """In the steps of its paper, from the variances along the principal directions."""
    count = len(variances)
    normalised = np.sqrt(count) * variances / np.linalg.norm(variances)
    defect = np.linalg.norm(normalised - 1) / np.sqrt(2 * (count - np.sqrt(count)))
    used = (count - defect**2 * (count - np.sqrt(count))) ** 2 / count
    return (used - 1) / (count - 1)


@pytest.mark.parametrize(
    ("name", "texts", "expected"),
    [
        ("mean-cosine", ISOTROPIC, -1 / (2 * WIDTH - 1)),
        ("mean-cosine", COLLAPSED, 1.0),
        ("mean-cosine", CLUSTERS, 12 / 28),
        ("mean-vector", ISOTROPIC, 0.0),
        ("mean-vector", COLLAPSED, 1.0),
        ("mean-vector", CLUSTERS, 0.5),
        ("effective-rank", ISOTROPIC, WIDTH),
        ("effective-rank", COLLAPSED, 1.0),
        ("effective-rank", CLUSTERS, 2.0),
        ("effective-rank", dominant(), np.exp(-(np.log(1 / 1.7) + 0.7 * np.log(0.1 / 1.7)) / 1.7)),
        ("alpha-req", ISOTROPIC, 0.0),
        ("isoscore", ISOTROPIC, 1.0),
        ("isoscore", CLUSTERS, 0.0),
        ("uniformity", COLLAPSED, 0.0),
        ("uniformity", ISOTROPIC, np.log((8 * np.exp(-8) + 112 * np.exp(-4)) / 120)),
        ("mean-cosine", dominant(), -2.14 / (16 * 15)),
        ("mean-vector", dominant(), 0.0),
        # One variance of 1 and seven of .01, scaled to norm sqrt 8: the isotropy defect and the dimensions used.
        ("isoscore", dominant(), isoscore_of(np.array([1.0, *[0.01] * 7]))),
        ("uniformity", CLUSTERS, np.log((12 + 16 * np.exp(-4)) / 28)),
    ],
)
def test_known_values(name, texts, expected):
    assert values(name, given(texts))["documents"] == pytest.approx(expected, abs=1e-6)


def test_the_share_of_the_top_directions():
    found = values("top-variance", given(dominant()))
    assert found["documents: top 1"] == pytest.approx(1 / 1.07, abs=1e-6)
    assert found["documents: top 8"] == pytest.approx(1.0)
    assert values("top-variance", given(ISOTROPIC))["documents: top 1"] == pytest.approx(1 / WIDTH)
    assert values("top-variance", given(COLLAPSED)) == {}
    assert values("top-variance", given(CLUSTERS))["documents: top 1"] == pytest.approx(1.0)
    assert values("alpha-req", given(COLLAPSED)) == {}


def test_alpha_is_the_exponent_of_a_power_law():
    scales = np.arange(1, WIDTH + 1) ** -0.75  # of standard deviations, so 1.5 of variances
    texts = [[sign * scales[place] * BASIS[place] for sign in (1, -1)] for place in range(WIDTH)]
    assert values("alpha-req", given(texts))["documents"] == pytest.approx(1.5, abs=1e-5)


def test_the_cosine_of_queries_with_documents_is_of_pairs_of_both():
    documents, queries = random(), random(1, texts=3)
    expected = np.mean([a @ b for a in flat(queries) for b in flat(documents)])
    found = values("mean-cosine", given(documents, queries))
    assert found["queries with documents"] == pytest.approx(expected, abs=1e-7)


def test_against_plain_computations():
    texts = random()
    rows, made = flat(texts), given(texts)
    pairs = list(itertools.combinations(rows, 2))
    assert values("mean-cosine", made)["documents"] == pytest.approx(np.mean([a @ b for a, b in pairs]), abs=1e-7)
    singular = np.linalg.svd(rows, compute_uv=False)
    share = singular / singular.sum()
    assert values("effective-rank", made)["documents"] == pytest.approx(
        np.exp(-(share * np.log(share)).sum()), rel=1e-5
    )
    uniform = torch.pdist(torch.from_numpy(rows)).pow(2).mul(-2).exp().mean().log()
    assert values("uniformity", made)["documents"] == pytest.approx(float(uniform), abs=1e-6)
    expected = isoscore_of(np.linalg.eigvalsh(np.cov(rows.T)))
    assert values("isoscore", made)["documents"] == pytest.approx(expected, abs=1e-6)


def test_both_sides_are_weighted_alike():
    found = values("mean-vector", given([[BASIS[0]] * 4], [[BASIS[1]] * 2]))
    assert found == pytest.approx({"documents": 1.0, "queries": 1.0, "both": 0.5})


def test_similarity_within_and_between_texts():
    found = values("token-similarity", given(CLUSTERS))
    assert found["documents: within"] == pytest.approx(1.0)
    assert found["documents: between"] == pytest.approx(0.0)
    for made, within, between in ((ISOTROPIC, -1.0, 0.0), (COLLAPSED, 1.0, 1.0)):
        found = values("token-similarity", given(made))
        assert (found["documents: within"], found["documents: between"]) == pytest.approx((within, between))
    texts = random(1)
    within = [a @ b for text in texts for a, b in itertools.combinations(np.float64(text), 2)]
    between = [
        a @ b for one, other in itertools.combinations(texts, 2) for a in np.float64(one) for b in np.float64(other)
    ]
    found = values("token-similarity", given(texts))
    assert found["documents: within"] == pytest.approx(np.mean(within), abs=1e-7)
    assert found["documents: between"] == pytest.approx(np.mean(between), abs=1e-7)


def test_variance_within_and_between_classes():
    assert values("class-variance", given(CLUSTERS)) == pytest.approx({"documents": 0.0}, abs=1e-12)
    assert values("class-variance", given(ISOTROPIC)) == values("class-variance", given(COLLAPSED)) == {}
    # Word piece 1 is +-a around 0 in direction 0, word piece 2 the same around b; piece 3 is in one text only.
    texts = [[[0.5, 0], [0.5, 2.0], [9, 9]], [[-0.5, 0], [-0.5, 2.0]]]
    pieces = [[1, 2, 3], [1, 2]]
    assert values("class-variance", given(texts, pieces=pieces))["word pieces"] == pytest.approx(0.25 / 1.0)
    # More token ids than vectors (a host that drops some) are no classes of anything.
    assert "word pieces" not in values("class-variance", given(texts, pieces=[[1, 2, 3, 4], [1, 2]]))


def test_alignment_is_over_the_winners_in_relevant_documents():
    documents = [[BASIS[0], BASIS[1]], [BASIS[2]]]
    queries = [[BASIS[0], BASIS[2]], [BASIS[2]]]
    made = given(documents, queries, qrels={"q0": {"d0": 1, "d1": 0, "gone": 1}, "q1": {"d1": 2}})
    assert values("alignment", made)["matched"] == pytest.approx((0 + 2 + 0) / 3)
    assert values("alignment", given(documents)) == {}
    for same in (ISOTROPIC, COLLAPSED, CLUSTERS):
        assert values("alignment", given(same, qrels={"q0": {"d0": 1}}))["matched"] == pytest.approx(0.0, abs=1e-12)


def test_hubness_is_the_skewness_of_the_counts():
    run = {f"q{place}": [("d0", 1.0), (f"d{place + 1}", 0.5)] for place in range(3)}
    made = given([[BASIS[0]]] * 5, run=run)
    counts = np.array([3, 1, 1, 1, 0])
    centred = counts - counts.mean()
    expected = (centred**3).mean() / (centred**2).mean() ** 1.5
    assert values("hubness", made)["documents"] == pytest.approx(expected)
    # The eleventh document of a query is not counted.
    run = {"q0": [(f"d{place}", -float(place)) for place in range(11)]}
    counts = np.array([*[1] * 10, 0, 0])
    centred = counts - counts.mean()
    expected = (centred**3).mean() / (centred**2).mean() ** 1.5
    assert values("hubness", given([[BASIS[0]]] * 12, run=run))["documents"] == pytest.approx(expected)


def test_samples_are_bounded_complete_and_the_same_for_every_variant(monkeypatch):
    monkeypatch.setattr("eval.explain.given.SAMPLED_TOKENS", 10)
    texts = [[BASIS[place % WIDTH]] * 3 for place in range(30)]
    one, other = given(texts).document_tokens, given([[2 * row for row in text] for text in texts]).document_tokens
    assert 10 <= len(one.rows) < 10 + 3
    assert np.array_equal(one.texts, other.texts)
    assert len(set(one.texts)) == len(one.rows) / 3
    assert np.array_equal(one.rows[:, 0] != 0, one.texts % WIDTH == 0)
