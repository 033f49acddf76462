"""MaxSim against its formula written with loops, and every backend against the reference."""

import importlib.util
import math
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import projheads.scoring
from projheads.errors import ProjheadsError
from projheads.scoring import LOWEST_SCORE, maxsim, maxsim_nway

BACKENDS = ["reference", "blocked"]


def loops(query, document, query_mask, document_mask):
    """The formula, one multiplication at a time."""
    if not any(document_mask):
        return LOWEST_SCORE
    total = 0.0
    for q, scored in zip(query.tolist(), query_mask.tolist(), strict=True):
        if scored:
            total += max(
                sum(a * b for a, b in zip(q, d, strict=True))
                for d, kept in zip(document.tolist(), document_mask.tolist(), strict=True)
                if kept
            )
    return total


def batch(seed, queries, query_tokens, documents, document_tokens, width=5, dtype=torch.float32, n=None):
    g = torch.Generator().manual_seed(seed)
    q = F.normalize(torch.randn(queries, query_tokens, width, generator=g), dim=-1).to(dtype)
    shape = (documents,) if n is None else (queries, n)
    d = F.normalize(torch.randn(*shape, document_tokens, width, generator=g), dim=-1).to(dtype)
    q_mask = torch.rand(queries, query_tokens, generator=g) > 0.3
    d_mask = torch.rand(*shape, document_tokens, generator=g) > 0.3
    return q, d, q_mask, d_mask


@pytest.mark.parametrize("backend", BACKENDS)
@given(
    seed=st.integers(0, 10**6), sizes=st.tuples(*[st.integers(1, 5)] * 4), masks=st.tuples(st.booleans(), st.booleans())
)
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_the_formula(backend, seed, sizes, masks):
    queries, documents, q_mask, d_mask = batch(seed, *sizes)
    q_given, d_given = (mask if used else None for mask, used in zip((q_mask, d_mask), masks, strict=True))
    q_mask, d_mask = (m if u else torch.ones_like(m) for m, u in zip((q_mask, d_mask), masks, strict=True))
    scores = maxsim(queries, documents, q_given, d_given, backend=backend)
    assert scores.dtype == torch.float32
    for i in range(sizes[0]):
        for j in range(sizes[2]):
            expected = loops(queries[i], documents[j], q_mask[i], d_mask[j])
            assert scores[i, j].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nway_scores_each_query_against_its_own_documents(backend):
    queries, documents, q_mask, d_mask = batch(1, 4, 3, 0, 6, n=3)
    scores = maxsim_nway(queries, documents, q_mask, d_mask, backend=backend)
    assert scores.shape == (4, 3)
    for i in range(4):
        for j in range(3):
            expected = loops(queries[i], documents[i, j], q_mask[i], d_mask[i, j])
            assert scores[i, j].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_masked_token_does_not_beat_a_negative_similarity(backend):
    query, document = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[-1.0, 0.0], [1.0, 0.0]]])
    mask = torch.tensor([[True, False]])
    assert maxsim(query, document, None, mask, backend=backend).item() == -1.0


@pytest.mark.parametrize("block", [1, 40, 10**6])
@pytest.mark.parametrize("nway", [False, True])
def test_blocked_gradients_are_the_references(monkeypatch, block, nway):
    monkeypatch.setattr(projheads.scoring, "_BLOCK_ON_CPU", block)
    queries, documents, q_mask, d_mask = batch(2, 6, 7, 5, 9, width=16, n=4 if nway else None)
    gradients = {}
    for backend in BACKENDS:
        q, d = queries.clone().requires_grad_(), documents.clone().requires_grad_()
        scores = (maxsim_nway if nway else maxsim)(q, d, q_mask, d_mask, backend=backend)
        torch.logsumexp(scores, dim=1).sum().backward()
        gradients[backend] = scores.detach(), q.grad, d.grad
    for reference, blocked in zip(*gradients.values(), strict=True):
        torch.testing.assert_close(blocked, reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("nway", [False, True])
def test_gradients_are_those_of_finite_differences(backend, nway):
    queries, documents, q_mask, d_mask = batch(3, 2, 3, 3, 4, dtype=torch.float64, n=2 if nway else None)
    function = maxsim_nway if nway else maxsim
    assert function(queries, documents).dtype == torch.float64
    assert torch.autograd.gradcheck(
        lambda q, d: function(q, d, q_mask, d_mask, backend=backend),
        (queries.requires_grad_(), documents.requires_grad_()),
    )


@pytest.mark.parametrize("frozen", ["queries", "documents"])
def test_blocked_computes_only_the_gradients_that_are_asked_for(frozen):
    queries, documents, q_mask, d_mask = batch(4, 3, 4, 3, 5)
    queries.requires_grad_(frozen != "queries")
    documents.requires_grad_(frozen != "documents")
    maxsim(queries, documents, q_mask, d_mask, backend="blocked").sum().backward()
    assert (queries.grad is None) == (frozen == "queries")
    assert (documents.grad is None) == (frozen == "documents")


def test_blocked_goes_to_the_first_of_equal_tokens_like_the_reference():
    query = torch.ones(1, 1, 2)
    gradients = []
    for backend in BACKENDS:
        document = torch.ones(1, 4, 2, requires_grad=True)
        maxsim(query, document, None, torch.tensor([[False, True, True, True]]), backend=backend).sum().backward()
        gradients.append(document.grad)
    assert torch.equal(gradients[0], gradients[1])
    assert gradients[1][0, :, 0].tolist() == [0.0, 1.0, 0.0, 0.0]


def test_blocked_repeats_itself_to_the_bit():
    runs = []
    for _ in range(3):
        queries, documents, q_mask, d_mask = batch(5, 16, 8, 16, 12, width=32)
        q, d = queries.requires_grad_(), documents.requires_grad_()
        maxsim(q, d, q_mask, d_mask, backend="blocked").pow(2).sum().backward()
        runs.append((q.grad, d.grad))
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0], strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_document_without_tokens_scores_lowest_and_keeps_the_loss_finite(backend):
    queries, documents, _, d_mask = batch(6, 3, 4, 3, 5)
    d_mask[:] = True
    d_mask[1] = False
    queries, documents = queries.requires_grad_(), documents.requires_grad_()
    scores = maxsim(queries, documents, None, d_mask, backend=backend)
    assert scores[:, 1].tolist() == [LOWEST_SCORE] * 3
    assert (scores[:, [0, 2]] > LOWEST_SCORE).all()
    loss = F.cross_entropy(scores / 0.02, torch.arange(3))
    loss.backward()
    assert math.isfinite(loss.item())
    assert queries.grad.isfinite().all()
    assert documents.grad[1].eq(0).all()
    assert F.softmax(scores.detach(), dim=1)[0, 1] == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_where_no_document_has_a_token_all_score_lowest(backend):
    queries, documents, _, d_mask = batch(16, 2, 3, 4, 5)
    scores = maxsim(queries, documents, None, torch.zeros_like(d_mask), backend=backend)
    assert scores.tolist() == [[LOWEST_SCORE] * 4] * 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_embeddings_of_one_number_are_scored(backend):
    queries, documents, _, d_mask = batch(17, 2, 3, 4, 5, width=1)
    d_mask[:, 0] = True
    scores = maxsim(queries, documents, None, d_mask, backend=backend)
    expected = [[loops(q, d, torch.ones(3), m) for d, m in zip(documents, d_mask, strict=True)] for q in queries]
    torch.testing.assert_close(scores, torch.tensor(expected))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_query_without_tokens_scores_zero(backend):
    queries, documents, _, _ = batch(7, 2, 3, 2, 4)
    mask = torch.tensor([[False] * 3, [True] * 3])
    assert maxsim(queries, documents, mask, None, backend=backend)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_stands_under_a_mask_never_matters(backend):
    queries, documents, q_mask, d_mask = batch(8, 3, 4, 3, 5)
    d_mask[2] = False
    clean = maxsim(queries, documents, q_mask, d_mask, backend=backend)
    q = queries.masked_fill(~q_mask[..., None], torch.nan).requires_grad_()
    d = documents.masked_fill(~d_mask[..., None], torch.nan).requires_grad_()
    scores = maxsim(q, d, q_mask, d_mask, backend=backend)
    scores.sum().backward()
    assert torch.equal(scores, clean)
    assert q.grad.isfinite().all()
    assert d.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_embeddings_are_summed_in_float32(backend, dtype):
    queries, documents, q_mask, d_mask = batch(9, 4, 32, 4, 20, width=64, dtype=dtype)
    q, d = queries.requires_grad_(), documents.requires_grad_()
    scores = maxsim(q, d, q_mask, d_mask, backend=backend)
    exact = maxsim(queries.double(), documents.double(), q_mask, d_mask, backend="reference")
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores.double(), exact, rtol=1e-6, atol=1e-5)
    scores.sum().backward()
    assert q.grad.dtype == d.grad.dtype == dtype


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_around_the_call_changes_nothing(backend):
    queries, documents, q_mask, d_mask = batch(10, 4, 8, 4, 8, width=64)
    outside = maxsim(queries, documents, q_mask, d_mask, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = maxsim(queries, documents, q_mask, d_mask, backend=backend)
    assert torch.equal(inside, outside)


def test_blocked_never_holds_all_similarities(monkeypatch):
    monkeypatch.setattr(projheads.scoring, "_BLOCK_ON_CPU", 2**10)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return result

    queries, documents, q_mask, d_mask = batch(11, 16, 8, 16, 32, width=4)
    q, d = queries.requires_grad_(), documents.requires_grad_()
    with Watch():
        maxsim(q, d, q_mask, d_mask, backend="blocked").sum().backward()
    assert largest < 16 * 16 * 8 * 32 / 8


@pytest.mark.parametrize(("limit", "largest"), [(1024, 1024), (1023, 768), (255, 256), (10**6, 3 * 4096)])
def test_a_block_is_as_large_as_the_limit_allows(limit, largest, monkeypatch):
    sizes = []
    real = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b: sizes.append(a.shape[0] * a.shape[1] * b.shape[2]) or real(a, b))
    monkeypatch.setattr(projheads.scoring, "_BLOCK_ON_CPU", limit)
    # Three queries of 8 tokens with 16 documents of 32 tokens each: 256 similarities for each document.
    queries, documents = torch.randn(3, 8, 4), torch.randn(3, 16, 32, 4)
    scores = maxsim_nway(queries, documents, backend="blocked")
    torch.testing.assert_close(scores, maxsim_nway(queries, documents, backend="reference"))
    assert (max(sizes), sum(sizes)) == (largest, 3 * 4096)


def test_auto_is_the_blocked_form_on_a_cpu():
    queries, documents, q_mask, d_mask = batch(12, 3, 4, 3, 5)
    auto = maxsim(queries, documents, q_mask, d_mask)
    assert torch.equal(auto, maxsim(queries, documents, q_mask, d_mask, backend="blocked"))


def test_auto_makes_the_products_of_the_blocked_form_on_a_cpu(monkeypatch):
    products = []
    real = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b: products.append(a.shape) or real(a, b))
    queries, documents, _, _ = batch(18, 3, 4, 3, 5)
    assert maxsim(queries, documents).shape == (3, 3)
    assert len(products) == 1


def test_fused_hands_the_kernels_no_document_without_tokens(monkeypatch):
    def kernel(queries, documents, *, q_mask, d_mask, backward):
        assert d_mask.any(-1).all()
        return (maxsim if documents.ndim == 3 else maxsim_nway)(queries, documents, q_mask, d_mask, backend="reference")

    module = types.ModuleType("late_interaction_kernels.autograd")
    module.maxsim = kernel
    monkeypatch.setitem(sys.modules, "late_interaction_kernels", types.ModuleType("late_interaction_kernels"))
    monkeypatch.setitem(sys.modules, "late_interaction_kernels.autograd", module)
    monkeypatch.setattr(projheads.scoring, "_why_not_fused", lambda queries, documents: None)
    for function, n in ((maxsim, None), (maxsim_nway, 3)):
        queries, documents, q_mask, d_mask = batch(13, 3, 4, 3, 5, dtype=torch.bfloat16, n=n)
        d_mask[..., 1, :] = False
        d_mask[..., 0, 0] = True
        fused = function(queries, documents, q_mask, d_mask, backend="auto")
        assert torch.equal(fused, function(queries, documents, q_mask, d_mask, backend="reference"))


@pytest.mark.parametrize(
    ("width", "dtypes", "capability", "refused"),
    [
        (8, "hh", (8, 0), None),
        (256, "bb", (9, 0), None),
        (16, "hh", (7, 5), "compute capability 8.0 or higher"),
        (4, "hh", (8, 0), "multiple of 8 and at most 256, not 4"),
        (12, "hh", (8, 0), "multiple of 8 and at most 256, not 12"),
        (28, "hh", (8, 0), "multiple of 8 and at most 256, not 28"),
        (264, "hh", (8, 0), "multiple of 8 and at most 256, not 264"),
        (16, "ff", (8, 0), "half-precision embeddings, not torch.float32 and torch.float32"),
        (16, "hb", (8, 0), "half-precision embeddings, not torch.float16 and torch.bfloat16"),
        (16, "fh", (8, 0), "half-precision embeddings, not torch.float32 and torch.float16"),
    ],
)
def test_where_the_kernels_can_run(width, dtypes, capability, refused, monkeypatch):
    class Ran(Exception):
        pass

    def kernel(queries, documents, **masks):
        raise Ran

    module = types.ModuleType("late_interaction_kernels.autograd")
    module.maxsim = kernel
    monkeypatch.setitem(sys.modules, "late_interaction_kernels", types.ModuleType("late_interaction_kernels"))
    monkeypatch.setitem(sys.modules, "late_interaction_kernels.autograd", module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    kinds = {"h": torch.float16, "b": torch.bfloat16, "f": torch.float32}
    with FakeTensorMode():
        queries, documents = (torch.empty(3, 5, width, device="cuda", dtype=kinds[kind]) for kind in dtypes)
        if refused:
            with pytest.raises(ProjheadsError, match=refused):
                maxsim(queries, documents, backend="fused")
        else:
            for backend in ("auto", "fused"):
                with pytest.raises(Ran):
                    maxsim(queries, documents, backend=backend)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ProjheadsError, match="needs the package late-interaction-kernels"):
            maxsim(queries, documents, backend="fused")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("nway", [False, True])
def test_fused_agrees_with_the_reference_on_a_gpu(nway):
    pytest.importorskip("late_interaction_kernels")
    tensors = batch(14, 8, 32, 8, 60, width=128, dtype=torch.bfloat16, n=4 if nway else None)
    queries, documents, q_mask, d_mask = (tensor.cuda() for tensor in tensors)
    d_mask[..., 1, :] = False
    function = maxsim_nway if nway else maxsim
    results = {}
    for backend in ("reference", "fused"):
        q, d = queries.clone().requires_grad_(), documents.clone().requires_grad_()
        scores = function(q, d, q_mask, d_mask, backend=backend)
        scores.logsumexp(1).sum().backward()
        results[backend] = scores.detach(), q.grad.float(), d.grad.float()
    for reference, fused in zip(*results.values(), strict=True):
        torch.testing.assert_close(fused, reference, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda q, d: maxsim(q, d, backend="fast"), 'unknown MaxSim backend "fast"; known: auto'),
        (lambda q, d: maxsim(q, d, backend="blokced"), 'did you mean "blocked"?'),
        (lambda q, d: maxsim(q, d, backend="fused"), "needs a CUDA device"),
        (lambda q, d: maxsim(q[0], d), "(3, 4) and (2, 5, 4)"),
        (lambda q, d: maxsim(q, d[..., :3]), "(2, 3, 4) and (2, 5, 3)"),
        (lambda q, d: maxsim(q, d[:, :0]), "at least one text and one token"),
        (lambda q, d: maxsim_nway(q, d), "(B, n, Ld, d)"),
        (lambda q, d: maxsim_nway(q, d[None]), "2 queries and documents for 1"),
        (lambda q, d: maxsim(q, d, q.new_ones(2, 3)), "queries_mask must be bool (2, 3), got torch.float32"),
        (lambda q, d: maxsim(q, d, None, torch.ones(2, 4, dtype=torch.bool)), "documents_mask must be bool (2, 5)"),
    ],
)
def test_wrong_input_gets_one_line(call, said):
    with pytest.raises(ProjheadsError) as error:
        call(torch.randn(2, 3, 4), torch.randn(2, 5, 4))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
