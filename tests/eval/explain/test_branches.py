"""What a branch contributes to a head, and what the head scores without it."""

import pytest
import torch
from torch.nn import functional

from eval.evaluate import evaluate_experiment
from eval.explain.branches import branches_of, contribution
from eval.runs import read_run
from experiment.console.progress import Progress
from experiment.disk.models import weights_hash
from experiment.disk.records import EvaluationRecord, ExplainRecord
from projheads import build_head
from projheads.hosts.head_files import load_head, save_head

AGAIN = """
from eval.explain import register_diagnostic
from eval.explain.rerank import reranked_ndcg, sampled_queries, scores_of_run

@register_diagnostic("again", title="", group="", formula="", range=(0.0, 0.0), high="", low="", source="")
def again(given):
    if given.head is None:
        return None
    queries = sampled_queries(given)
    full = scores_of_run(given, given.run, queries)
    found = reranked_ndcg(given, given.head, queries, [given.run])
    return {name: found[name] - full[name] for name in queries}
"""


def evaluate(config):
    with Progress() as progress:
        evaluate_experiment(config, progress)


def replace_head(miniature, seed, head):
    """Save a different head in a trial of the linear variant, as training would have."""
    model = miniature.folder.trial("linear", seed).model
    for file in (model / "1_Head").iterdir():
        file.unlink()
    save_head(head, model / "1_Head")
    miniature.change_trial("linear", seed, weights_hash=weights_hash(model))


def made(spec, seed=0):
    head = build_head(spec, 6, 4, generator=torch.Generator().manual_seed(seed)).eval()
    return head, torch.randn(50, 6, generator=torch.Generator().manual_seed(9))


def named(head, states):
    return {branch.name: branch for branch in branches_of(head, states)}


def test_a_residual_head_has_a_skip_and_an_inner_part():
    head, x = made("residual(inner=linear, scale=0.5)")
    found = named(head, x)
    skip, inner = x @ head.skip.weight.T, 0.5 * (x @ head.inner.linear.weight.T)
    assert list(found) == ["inner", "skip"]
    for name, part, rest in (("inner", inner, skip), ("skip", skip, inner)):
        with torch.no_grad(), found[name].off():
            assert torch.allclose(head(x), rest, atol=1e-6)
        share, cosine = contribution(head, found[name], x)
        norms = [one.norm(dim=1).mean().item() for one in (part, rest)]
        assert share == pytest.approx(norms[0] / sum(norms), rel=1e-5)
        assert cosine == pytest.approx(float(functional.cosine_similarity(part, part + rest).mean()), abs=1e-5)
    with torch.no_grad():
        assert torch.allclose(head(x), skip + inner, atol=1e-6)  # every branch is on again


TURN = torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]])


@pytest.mark.parametrize(
    ("inner", "shares", "cosines"),
    [
        (3 * torch.eye(4), (0.75, 0.25), (1.0, 1.0)),
        (-0.5 * torch.eye(4), (1 / 3, 2 / 3), (-1.0, 1.0)),
        (TURN, (0.5, 0.5), (0.5**0.5, 0.5**0.5)),
        (3**0.5 * TURN, (3**0.5 / (1 + 3**0.5), 1 / (1 + 3**0.5)), (3**0.5 / 2, 0.5)),
        (torch.zeros(4, 4), (0.0, 1.0), (0.0, 1.0)),
    ],
    ids=["along", "against", "at right angles", "at right angles, longer", "nothing"],
)
def test_known_contributions_to_an_identity(inner, shares, cosines):
    head = build_head("residual(inner=linear)", 4, 4, generator=torch.Generator()).eval()
    with torch.no_grad():
        head.inner.linear.weight.copy_(inner)
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(9))
    found = {branch.name: contribution(head, branch, x) for branch in branches_of(head, x)}
    assert found["inner"] == pytest.approx((shares[0], cosines[0]), abs=1e-6)
    assert found["skip"] == pytest.approx((shares[1], cosines[1]), abs=1e-6)


def test_a_chain_has_the_skips_of_its_layers_and_square_layers_can_be_left_out():
    head, x = made('ffn(depth=3, activation="gelu", residual=(true, false, false))')
    found = named(head, x)
    assert list(found) == ["layer 1 inner", "layer 1 skip", "layer 2"]
    first, second, last = head.dense_layers()
    inner = functional.gelu(x @ first.linear.weight.T)
    rest = lambda h: functional.gelu(h @ second.linear.weight.T) @ last.linear.weight.T  # noqa: E731
    with torch.no_grad():
        with found["layer 1 skip"].off():
            assert torch.allclose(head(x), rest(inner), atol=1e-6)
        with found["layer 1 inner"].off():
            assert torch.allclose(head(x), rest(x), atol=1e-6)
        with found["layer 2"].off():
            assert torch.allclose(head(x), (inner + x) @ last.linear.weight.T, atol=1e-6)


def test_a_gate_is_held_at_its_mean():
    head, x = made('glu(activation="sigmoid", bias=true)')
    found = named(head, x)
    assert list(found) == ["gate"]
    mean = torch.sigmoid(head.gate(x)).mean(dim=0)
    with torch.no_grad(), found["gate"].off():
        assert torch.allclose(head(x[:7]), head.output(mean * head.up(x[:7])), atol=1e-6)


def test_a_nested_head_names_its_branches_by_their_place():
    head, x = made('residual(inner=glu(activation="silu"))')
    assert list(named(head, x)) == ["inner", "skip", "inner gate"]
    assert named(*made("linear")) == {}


def test_ranking_with_the_trained_head_gives_the_scores_of_its_run(miniature, tmp_path):
    file = tmp_path / "again.py"
    file.write_text(AGAIN)
    evaluate(miniature.config(f"eval.explain={{files: [{file}]}}"))
    found = ExplainRecord.read(miniature.folder.trial("ffn-activation=gelu", 0).explain_json("odd")).findings["again"]
    assert len(found.values) == 5
    assert all(abs(value) < 1e-9 for value in found.values.values())


def test_branches_and_barriers_are_in_the_records(miniature):
    folder = miniature.folder
    # Seed 1 of the linear head is a copy of seed 0: their average is the same head.
    head = load_head(folder.trial("linear", 0).model / "1_Head")
    replace_head(miniature, 1, head)
    evaluate(miniature.config("eval.explain=true"))
    read = lambda slug, seed: ExplainRecord.read(folder.trial(slug, seed).explain_json("odd")).findings  # noqa: E731
    assert read("linear", 0)["barrier"].values == {}
    assert read("linear", 1)["barrier"].values == {"halfway": pytest.approx(0.0, abs=1e-12)}
    assert set(read("ffn-activation=gelu", 1)["barrier"].values) == {"halfway"}
    assert read("linear", 0)["branch-share"].values == {}
    assert set(read("ffn-activation=gelu", 0)["branch-ablation"].values) == {"branches: layer 1"}


def scores_of(folder, queries):
    """Mean nDCG@10 of an evaluation over some queries."""
    scores = EvaluationRecord.read(folder.eval_json("odd")).measures["nDCG@10"]
    return sum(scores[name] for name in queries) / len(queries)


def test_what_is_lost_is_the_difference_between_evaluations_of_the_two_heads(miniature, monkeypatch):
    monkeypatch.setattr("eval.explain.rerank.CANDIDATES", 100)  # all documents, so that nothing is missed
    folder = miniature.folder
    chain, first = (load_head(folder.trial(slug, 0).model / "1_Head") for slug in ("ffn-activation=gelu", "linear"))
    average = load_head(folder.reference("untrained", 0).model / "1_Head")
    last = chain.dense_layers()[-1].linear.weight.detach()
    with torch.no_grad():
        first.linear.weight.copy_(last)  # the chain without its first layer
        replace_head(miniature, 0, first)
        first.linear.weight.copy_(2 * average.linear.weight - last)  # so that the average of the two is the reference
        replace_head(miniature, 1, first)
    evaluate(miniature.config("eval.explain=true", "eval.depth=40"))
    trials = {place: folder.trial(*place) for place in (("linear", 0), ("linear", 1), ("ffn-activation=gelu", 0))}
    queries = list(read_run(trials["linear", 0].eval_run("odd")))
    without, other, full = (scores_of(one, queries) for one in trials.values())
    lost = ExplainRecord.read(trials["ffn-activation=gelu", 0].explain_json("odd")).findings["branch-ablation"].values
    assert lost == {"branches: layer 1": pytest.approx(full - without, abs=1e-9)}
    barrier = ExplainRecord.read(trials["linear", 1].explain_json("odd")).findings["barrier"].values
    middle = scores_of(folder.reference("untrained", 0), queries)
    assert barrier == {"halfway": pytest.approx((without + other) / 2 - middle, abs=1e-9)}
    assert min(abs(full - without), abs((without + other) / 2 - middle)) > 0.01


def test_a_different_first_seed_is_a_different_barrier(miniature):
    evaluate(miniature.config("eval.explain=true"))
    path = miniature.folder.trial("linear", 1).explain_json("odd")
    before = ExplainRecord.read(path).findings
    head = load_head(miniature.folder.trial("linear", 0).model / "1_Head")
    with torch.no_grad():
        head.linear.weight.mul_(-1)
    replace_head(miniature, 0, head)
    evaluate(miniature.config("eval.explain=true"))
    after = ExplainRecord.read(path).findings
    assert after["barrier"].key != before["barrier"].key
    assert {name for name, one in after.items() if one.key != before[name].key} == {"barrier"}
