"""The gradients of a batch, however its texts go through the model, are those of the plain loss."""

import numpy as np
import pytest
import torch
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional

from experiment.seeds import numpy_generator
from projheads import build_head
from projheads.hosts import load_host
from projheads.hosts.base import EncodingSettings
from train.batch import BackwardPass
from train.data.examples import TrainingData
from train.embedding.embedders import LiveEmbedder, by_length, pad
from train.embedding.tokenised import tokenise_once
from train.processes import Processes

DOCUMENTS = [
    "the cat sat on the mat",
    "paris",
    "rain, rain and sun on a red mat in paris where the dog is",
    "a dog",
    "what is the capital of france: paris is",
    "birds run and walk on red and blue and green",
    "sun",
    "the bird sat",
]
QUERIES = ["cat on mat", "capital of france", "rain in paris", "where is the dog"]


@pytest.fixture(scope="module")
def model(backbone):
    head = build_head("ffn(depth=2)", 32, 8, generator=torch.Generator().manual_seed(0))
    model = load_host("auto").create(str(backbone), head, EncodingSettings(query_length=12, document_length=24))
    for module in model.native.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


@pytest.fixture
def problem(model):
    examples = np.array([[0, 0, 3], [1, 4, 1], [2, 2, 6], [3, 3, 5]])
    data = TrainingData(
        queries=QUERIES,
        documents=DOCUMENTS,
        examples=examples,
        teacher_scores=np.array([[9, 1], [8, 3], [7, 7], [6, 2]], "float32"),
        validation=np.empty((0, 2), np.int64),
        relevant={0: [0], 1: [4], 2: [2, 0], 3: [3]},
        hash="0",
        notes={},
    )
    queries = tokenise_once(model, QUERIES, is_query=True)
    documents = tokenise_once(model, DOCUMENTS, is_query=False)
    return data, LiveEmbedder(model, queries, documents)


def gradients(settings, model, data, embed, batch=(0, 1, 2, 3), *, stream=("dropout", 1), widths=(), processes=None):
    model.native.zero_grad()
    backward = BackwardPass(
        settings, model.head, embed, data, widths, 0, GradScaler("cpu", enabled=False), processes or Processes()
    )
    loss = backward(np.array(batch), stream)
    return loss, {name: p.grad.clone() for name, p in model.native.named_parameters() if p.grad is not None}


def plain(model, data, loss):
    """The loss by the book: texts as the host pads them, every similarity in one tensor, masked entries left out."""
    model.native.zero_grad()
    sides = []
    for texts, is_query in ((QUERIES, True), ([DOCUMENTS[i] for i in data.examples[:, 1:].ravel()], False)):
        tokens = model.tokenize(texts, is_query=is_query)
        embeddings = functional.normalize(model.head(model.token_states(tokens)), dim=-1)
        sides.append((embeddings, model.scoring_mask(tokens, is_query=is_query)))
    (queries, query_mask), (documents, document_mask) = sides
    similarities = torch.einsum("qld,nmd->qnlm", queries, documents)
    best = similarities.masked_fill(~document_mask[None, :, None], -torch.inf).amax(-1)
    scores = (best * query_mask[:, None]).sum(-1)
    rows = torch.arange(4)
    if loss == "contrastive":
        scores = scores.masked_fill(torch.from_numpy(data.false_negatives(data.examples)), -torch.inf)
        value = functional.cross_entropy(scores, 2 * rows)
    else:
        own = torch.stack([scores[rows, 2 * rows], scores[rows, 2 * rows + 1]], 1)
        teacher = torch.from_numpy(data.teacher_scores).softmax(-1)
        value = (teacher * (teacher.log() - own.log_softmax(-1))).sum(-1).mean()
    value.backward()
    return value.detach(), {name: p.grad.clone() for name, p in model.native.named_parameters() if p.grad is not None}


def assert_same(ours, theirs, tolerance=1e-5):
    assert ours[0].item() == pytest.approx(theirs[0].item(), rel=1e-5)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in theirs[1].items():
        scale = gradient.abs().max().clamp_min(1e-3)
        assert torch.allclose(ours[1][name] / scale, gradient / scale, atol=tolerance), name


@pytest.mark.parametrize("loss", ["contrastive", "kl"])
@pytest.mark.parametrize("options", [{}, {"mini_batch_size": 3}, {"mini_batch_size": 1}, {"mini_batch_size": 64}])
def test_value_and_gradient_are_those_of_the_plain_loss(settings, model, problem, loss, options):
    data, embed = problem
    source = {"tuples": "taught.jsonl"} if loss == "kl" else "pydocs"
    options = settings(trainable="all", loss=loss, data=source, **options)
    assert_same(gradients(options, model, data, embed), plain(model, data, loss))


def test_texts_of_like_length_go_together_and_change_nothing(settings, model, problem, monkeypatch):
    data, embed = problem
    seen = []
    states = model.token_states
    monkeypatch.setattr(model, "token_states", lambda tokens: seen.append(tokens["input_ids"].shape) or states(tokens))
    whole = gradients(settings(), model, data, embed)
    passes = len(seen)
    monkeypatch.setattr("train.embedding.embedders.PASS_TOKENS", {"cpu": 0})
    seen.clear()
    split = gradients(settings(), model, data, embed)
    assert passes < len(seen)
    lengths = embed.lengths(data.examples[:, 1:].ravel(), is_query=False)
    assert sum(rows * longest for rows, longest in seen) == lengths.sum() + 4 * 12
    assert_same(split, whole)


def test_mini_batches_see_the_same_dropout_in_both_of_their_passes(settings, model, problem):
    data, embed = problem
    dropouts = [module for module in model.native.modules() if isinstance(module, torch.nn.Dropout)]
    for module in dropouts:
        module.p = 0.3
    model.native.train()
    options = settings(trainable="all", mini_batch_size=3)
    first, again = (gradients(options, model, data, embed) for _ in range(2))
    other = gradients(options, model, data, embed, stream=("dropout", 2))
    # A directional derivative of the loss with that very dropout: two passes with unlike dropout would not give it.
    weight = model.head.state_dict(keep_vars=True)[next(iter(model.head.state_dict()))]
    name = next(n for n, p in model.native.named_parameters() if p is weight)
    direction = first[1][name] / first[1][name].norm()
    moved = []
    for step in (1e-3, -1e-3):
        with torch.no_grad():
            weight += step * direction
        moved.append(gradients(options, model, data, embed)[0].item())
        with torch.no_grad():
            weight -= step * direction
    model.native.eval()
    for module in dropouts:
        module.p = 0.0
    assert first[0] == again[0]
    assert first[0] != other[0]
    assert (moved[0] - moved[1]) / 2e-3 == pytest.approx(first[1][name].norm().item(), rel=0.02)


def test_checkpointed_activations_give_the_same_gradients(settings, model, problem):
    data, embed = problem
    model.native.train()
    options = settings(trainable="all")
    stored = gradients(options, model, data, embed)
    transformer = next(m for m in model.native.modules() if hasattr(m, "gradient_checkpointing_disable"))
    transformer.gradient_checkpointing_enable({"use_reentrant": False})
    checkpointed = gradients(options, model, data, embed)
    transformer.gradient_checkpointing_disable()
    model.native.eval()
    assert_same(checkpointed, stored, 1e-6)


@pytest.mark.parametrize("cost", [0, 7, 50, 10_000])
def test_lengths_are_grouped_at_the_least_work(cost):
    """Against every way of cutting the descending lengths."""
    lengths = numpy_generator(0, "lengths").integers(1, 40, 9)
    groups = by_length(lengths, cost)
    assert sorted(np.concatenate(groups)) == list(range(9))

    def work(parts):
        return sum(len(part) * max(part) + cost for part in parts)

    ordered = np.sort(lengths)[::-1]
    best = min(work(np.split(ordered, [i + 1 for i in range(8) if cuts >> i & 1])) for cuts in range(2**8))
    assert work([lengths[group] for group in groups]) == best


def test_pad_puts_rows_where_their_texts_are():
    rows = torch.arange(12.0).view(6, 2)
    padded, mask = pad(rows, torch.tensor([1, 3, 2]))
    assert mask.tolist() == [[True, False, False], [True, True, True], [True, True, False]]
    assert padded[0].tolist() == [[0, 1], [0, 0], [0, 0]]
    assert torch.equal(padded[mask], rows)


def test_tokens_are_the_hosts_without_its_padding(model):
    for texts, is_query in ((QUERIES, True), (DOCUMENTS, False)):
        stored = tokenise_once(model, texts, is_query=is_query)
        tokens, scoring = stored.batch(np.arange(len(texts)))
        theirs = model.tokenize(texts, is_query=is_query)
        assert tokens.keys() == theirs.keys()
        assert all(torch.equal(tokens[name], theirs[name]) for name in tokens)
        assert torch.equal(scoring, model.scoring_mask(theirs, is_query=is_query))
        short = stored.batch(np.array([1]))[0]["input_ids"]
        assert short.shape[1] == (12 if is_query else stored.lengths[1])
