"""How gradients flow on made-up embeddings, against values worked out by hand.

Every query is one token, every document begins with the same token as its query, and the head is the identity, so the
softmax and the gradient of each output have a closed form. With B orthogonal pairs, for instance, the gradient of each
output is c times the sum of the other directions, that of the map 2 c (J - I), with J all ones and I the identity.
"""

import numpy as np
import pytest
import torch

from experiment.config import TrainConfig
from experiment.encoding.store import TokenStore, offsets_of
from projheads import build_head
from train.data.examples import TrainingData
from train.embedding.embedders import FrozenEmbedder
from train.probe import Probe

B, TEMPERATURE = 5, 0.5
E = np.eye(B)
ONES = np.ones((B, B))


def store(texts):
    rows = [np.asarray(text, np.float32).reshape(len(text), -1) for text in texts]
    return TokenStore(np.concatenate(rows), offsets_of(np.array([len(one) for one in rows])))


def probed(queries, documents, weight=None, after=None):
    """Probe a linear head on pairs of texts, each a list of token states; ``after`` is its weight one step later."""
    count, width = len(queries), len(queries[0][0])
    data = TrainingData(
        queries=[f"q{i}" for i in range(count)], documents=[f"d{i}" for i in range(count)],
        examples=np.stack([np.arange(count)] * 2, axis=1), teacher_scores=None,
        validation=np.zeros((0, 2), np.int64), relevant={i: [i] for i in range(count)}, hash="0", notes={},
    )  # fmt: skip
    head = build_head("linear", width, width, generator=torch.Generator())

    def load(matrix):
        with torch.no_grad():
            head.linear.weight.copy_(torch.tensor(np.eye(width) if matrix is None else matrix))

    config = TrainConfig(data="pydocs", batch_size=8, loss={"temperature": TEMPERATURE})
    embed = FrozenEmbedder(store(queries), store(documents), torch.device("cpu"))
    probe = Probe(config, head, head, embed, data, (), steps=10)
    load(weight)
    assert probe(0) == []
    load(weight if after is None else after)
    return probe(1)[0].probe


def spectrum(matrix):
    """Return the effective rank, and the share of the energy in the first direction."""
    values = np.linalg.svd(matrix, compute_uv=False)
    shares = values[values > 1e-9] / values.sum()
    return np.exp(-(shares * np.log(shares)).sum()), values[0] ** 2 / np.square(values).sum()


def cosine(one, other):
    return (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other)


def test_isotropic():
    """Orthogonal pairs; the second token of a document is opposed to every query, and never wins."""
    loser = -np.full(B, B**-0.5)
    point = probed([[e] for e in E], [[e, loser] for e in E])
    assert (point.winners, point.winners_in_batch, point.changed) == (0.5, 0.5, 0.0)
    assert point.gini == pytest.approx(0.5)  # half of the tokens have one win each, the other half none
    # J - I has the singular values B - 1 and, B - 1 times, 1.
    assert point.gradient_rank == pytest.approx(2 * np.sqrt(B - 1), rel=1e-5)
    assert point.gradient_energy == pytest.approx({"1": (B - 1) / B, "8": 1.0, "32": 1.0}, rel=1e-5)
    assert point.map_rank == pytest.approx(B)
    outputs, gradients = 2 * E + B * np.outer(loser, loser), (ONES - E) @ (ONES - E)
    expected = {"R-W": cosine(outputs, E), "R-G": cosine(outputs, gradients), "W-G": cosine(gradients, E)}
    assert expected["R-W"] == pytest.approx(3 / np.sqrt(B + 8))
    assert point.alignment == pytest.approx(expected, rel=1e-5)


def test_one_dominant_direction():
    """All tokens lie near one direction: x_i = a e_0 + b e_i."""
    a, b = np.sqrt(0.9), np.sqrt(0.1)
    wide = np.eye(B + 1)
    rows = a * wide[0] + b * wide[1:]
    point = probed([[x] for x in rows], [[x] for x in rows])
    # Less its part along x_i, the gradient is c (sum of e_j, j not i, + (B - 1) a b e_0 - (B - 1) a^2 e_i).
    gradients = wide[1:].sum(axis=0) - wide[1:] + (B - 1) * (a * b * wide[0] - a**2 * wide[1:])
    assert np.abs((gradients * rows).sum(axis=1)).max() < 1e-12
    rank, top = spectrum(gradients.T @ rows)
    assert (point.gradient_rank, point.gradient_energy["1"]) == pytest.approx((rank, top), rel=1e-4)
    expected = {
        "R-W": cosine(rows.T @ rows, wide), "R-G": cosine(rows.T @ rows, gradients.T @ gradients),
        "W-G": cosine(gradients.T @ gradients, wide),
    }  # fmt: skip
    assert point.alignment == pytest.approx(expected, rel=1e-4)
    assert (point.winners, point.winners_in_batch, point.gini) == (1.0, 1.0, 0.0)


def test_collapsed():
    """All tokens are the same: no gradient, and the first of three tokens wins."""
    point = probed([[E[0]]] * 4, [[E[0]] * 3] * 4)
    assert (point.winners, point.winners_in_batch) == pytest.approx((1 / 3, 1 / 3))
    assert point.gini == pytest.approx(2 / 3)
    assert (point.gradient_rank, point.gradient_energy) == (None, {})
    assert point.alignment == pytest.approx({"R-W": 1 / np.sqrt(B)})


def test_two_clusters():
    """Two pairs at e_0 and two at e_1: each cluster is pushed along the other, so the map's gradient has rank 2."""
    texts = [[E[place]] for place in (0, 0, 1, 1)]
    point = probed(texts, texts)
    assert point.gradient_rank == pytest.approx(2.0, rel=1e-5)
    assert point.gradient_energy == pytest.approx({"1": 0.5, "8": 1.0, "32": 1.0}, rel=1e-5)
    plane = np.diag([1.0, 1, 0, 0, 0])
    expected = {"R-W": cosine(plane, E), "R-G": 1.0, "W-G": cosine(plane, E)}
    assert point.alignment == pytest.approx(expected, rel=1e-5)


def test_a_few_tokens_win_all_and_one_winner_changes():
    """Of 4 query tokens, 3 choose the first of 4 tokens; with the other weights, the last chooses another."""
    query = [[3.0, 0, 0, 0], [3, 0.1, 0, 0], [3, 0, 0.1, 0], [2, 0, 0, 1]]
    point = probed([query], [np.eye(4)], after=np.diag([1.0, 1, 1, 4]))
    assert point.winners == 0.25
    assert point.gini == pytest.approx(0.75)
    assert point.changed == 0.25


def test_tokens_that_win_for_another_query_count_in_the_batch_only():
    """The first document has a token that wins the other query too; the second has two that never win."""
    near = np.array([0.6, 0.8])
    point = probed([[[1.0, 0]], [[0, 1.0]]], [[[1.0, 0], near], [-near, [0, 1.0], -near]])
    # Over the first document, query 1 wins its second token; over the second, query 0 wins its second too.
    assert (point.winners, point.winners_in_batch, point.gini) == pytest.approx((0.4, 0.6, 0.6))


def test_longer_outputs_get_less_gradient():
    """Orthogonal pairs and a diagonal map: outputs of length s get 1 / s of the gradient."""
    scales = np.array([2.0, 1, 1, 1, 0.5])
    point = probed([[e] for e in E], [[e] for e in E], weight=np.diag(scales))
    gradients = (ONES - E) / scales[:, None]
    rank, top = spectrum(gradients)
    assert (point.gradient_rank, point.gradient_energy["1"]) == pytest.approx((rank, top), rel=1e-4)
    outputs, moments = np.diag(scales**2), gradients.T @ gradients
    expected = {"R-W": 1.0, "R-G": cosine(outputs, moments), "W-G": cosine(outputs, moments)}
    assert point.alignment == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("singular", "rank"), [([4, 2, 1, 1], 2**1.75), ([1, 1, 1, 1], 4.0), ([1, 0, 0, 0], 1.0), ([3, 3, 0, 0], 2.0)]
)
def test_the_rank_of_the_map_is_that_of_its_singular_values(singular, rank):
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    texts = [[row] for row in np.random.default_rng(1).normal(size=(3, 4))]
    point = probed(texts, texts, weight=np.diag(singular) @ turned)
    assert point.map_rank == pytest.approx(rank, rel=1e-4)
