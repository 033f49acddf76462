"""A pytest plugin: in every model that a peer's test makes, our head replaces the peer's ``Dense``.

``PEER_HEAD`` says which: ``theirs`` for none (the control), ``same`` for a head with the weights of their layers, or a
spec for that head with its own weights. ``PEER_OUTCOMES`` is the file that gets one JSON line for each test.
"""

import functools
import json
import os
from collections import OrderedDict
from pathlib import Path

import datasets
import hub
import pytest
import torch

from projheads import build_head
from projheads.hosts import available_hosts, load_host
from projheads.hosts.common import HeadModule

HEAD = os.environ["PEER_HEAD"]
_MADE = []  # one entry for each model that got a head of ours
datasets.load_dataset = hub.load_dataset


def pytest_configure():
    if HEAD == "theirs":
        return
    if "pylate" in available_hosts():
        from pylate.models import ColBERT, Dense

        adapter, native = load_host("pylate"), ColBERT
    else:
        from sentence_transformers import MultiVectorEncoder
        from sentence_transformers.base.modules import Dense

        adapter, native = load_host("sentence-transformers"), MultiVectorEncoder
    constructor = native.__init__

    @functools.wraps(constructor)
    def construct(self, *arguments, **options):
        if native.__name__ == "MultiVectorEncoder":
            options.setdefault("trust_remote_code", True)  # what it takes to open a checkpoint that names our class
        constructor(self, *arguments, **options)
        if _put_head(self, Dense, adapter):
            _MADE.append(native.__name__)

    native.__init__ = construct


def _put_head(model, dense_class, adapter):
    """Replace the run of Dense layers on token embeddings by a module that holds a head; False where none is."""
    modules = list(model)
    places = [i for i, module in enumerate(modules) if _is_theirs(module, dense_class)]
    if not places:
        return False
    chain = [modules[i] for i in places]
    weight = chain[0].linear.weight
    if HEAD == "same":
        head = adapter.from_dense_chain(chain)
    else:
        head = build_head(HEAD, chain[0].in_features, chain[-1].out_features).to(weight)
    modules[places[0] : places[-1] + 1] = [adapter.Projection(head).train(chain[0].training)]
    model._modules = OrderedDict((str(i), module) for i, module in enumerate(modules))
    return True


def _is_theirs(module, dense_class):
    on_tokens = getattr(module, "module_input_name", "token_embeddings") == "token_embeddings"
    return isinstance(module, dense_class) and not isinstance(module, HeadModule) and on_tokens


@pytest.fixture(autouse=True)
def _seeded():
    """The peers' models are drawn at random: with one seed, a control and its counterpart see the same backbone."""
    torch.manual_seed(0)


def pytest_runtest_logreport(report):
    if report.when == "call" or not report.passed:
        reason = "" if report.passed else _last_line(report)
        _write({"test": report.nodeid, "outcome": report.outcome, "reason": reason, "models": len(_MADE)})


def pytest_collectreport(report):
    if not report.passed:
        reason = _last_line(report)
        _write({"test": report.nodeid, "outcome": report.outcome, "reason": reason, "models": len(_MADE)})


def _write(line):
    with Path(os.environ["PEER_OUTCOMES"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _last_line(report):
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    lines = [line for line in str(report.longrepr).splitlines() if line.startswith("E ")]
    return lines[0][1:].strip()[:200] if lines else str(report.longrepr)[-200:]
