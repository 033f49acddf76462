import numpy as np
import pytest
import torch

from train.ndcg import held_out_ndcg, ndcg


def test_ndcg_is_that_of_ir_measures():
    ir_measures = pytest.importorskip("ir_measures")
    generator = np.random.default_rng(0)
    scores, relevant = generator.normal(size=(20, 30)), generator.random((20, 30)) < 0.15
    relevant[:, 3] = True
    qrels = {f"q{q}": {f"d{d}": int(relevant[q, d]) for d in range(30)} for q in range(20)}
    run = {f"q{q}": {f"d{d}": float(scores[q, d]) for d in range(30)} for q in range(20)}
    for cutoff in (1, 10, 50):
        measure = ir_measures.parse_measure(f"nDCG@{cutoff}")
        theirs = {metric.query_id: metric.value for metric in ir_measures.iter_calc([measure], qrels, run)}
        ours = ndcg(torch.tensor(scores), torch.tensor(relevant), cutoff)
        assert ours.tolist() == pytest.approx([theirs[f"q{q}"] for q in range(20)], abs=1e-12)


def test_a_tie_counts_as_lost():
    relevant = torch.tensor([[True, False, False], [False, False, True]])
    assert ndcg(torch.zeros(2, 3), relevant).tolist() == pytest.approx([0.5, 0.5])


def test_each_held_out_query_and_document_counts_once():
    # Query 7 has documents 1 and 2, document 2 has queries 7 and 9, query 8 has document 3.
    pairs = np.array([[7, 1], [7, 2], [9, 2], [8, 3]])
    relevant = {7: [1, 2], 8: [3], 9: [2]}
    by_document = {1: {7: 0.1, 8: 0.9, 9: 0.2}, 2: {7: 0.8, 8: 0.1, 9: 0.3}, 3: {7: 0.5, 8: 0.2, 9: 0.4}}
    scores = torch.tensor([[by_document[document][query] for document in pairs[:, 1]] for query in pairs[:, 0]])
    second, third = 1 / np.log2(3), 1 / np.log2(4)
    seven, eight, nine = (1 + third) / (1 + second), second, second
    assert held_out_ndcg(scores, pairs, relevant, {}) == pytest.approx((seven + eight + nine) / 3)
    # Without document 1, query 8 finds its own document first.
    assert held_out_ndcg(scores, pairs, relevant, {8: [1]}) == pytest.approx((seven + 1 + nine) / 3)
