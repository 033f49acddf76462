"""What evaluations take, stored and streamed, against arithmetic by hand."""

import sys

import pytest

from eval.__main__ import main
from eval.on_paper import COLLECTIONS, evaluation_on_paper, paper_needs
from eval.report.paper_table import HEADER, print_sizes, sizes_rows, sizes_value
from eval.sizes import Heads, Work, stored_need, streamed_need
from eval.streaming.way import choose_way
from experiment.config import EvalConfig
from experiment.console.command import run_command
from experiment.needs import Backbone

WORK = Work(documents=10**6, document_tokens=10**8, queries=1000, query_tokens=32_000, flop=1e15, width=768)
HEADS = Heads([128] * 7, multiply_adds=7 * 768 * 128, frozen=True)


def test_storing_grows_with_the_corpus_and_streaming_does_not():
    stored, streamed = stored_need(WORK, HEADS), streamed_need(WORK, HEADS)
    assert stored.disk == 10**8 * 2 * (768 + 128)
    # The rankings of 7 heads twice, and the token states and embeddings of the queries.
    assert streamed.disk == 2 * 1000 * 100 * 12 * 7 + 32_000 * 2 * (768 + 7 * 128)
    # Besides the process: a window of 4,096 documents of 100 tokens, its embeddings and their copy in float32 for one
    # head, 1,000 queries of 32 tokens likewise, scores with places, the rankings three times, and the priorities.
    window = 409_600 * (2 * 768 + 2 * 128 + 6 * 128)
    queries = 32_000 * 6 * 128 + 1000 * 4096 * 8
    assert streamed.memory == 750e6 + window + queries + 3 * 1000 * 100 * 12 * 7 + 8 * 10**6
    assert stored.flop == streamed.flop
    products = 2 * 7 * 128 * 32_000 * 10**8
    assert stored.flop == pytest.approx(1e15 + products + 2 * 7 * 768 * 128 * (10**8 + 32_000))
    larger = Work(**{**vars(WORK), "documents": 10**7, "document_tokens": 10**9})
    assert streamed_need(larger, HEADS).disk == streamed.disk
    assert streamed_need(larger, HEADS).memory - streamed.memory == 8 * 9 * 10**6


def test_threads_that_encode_and_texts_in_memory_take_memory_both_ways():
    more = Work(**{**vars(WORK), "text_bytes": 5e8, "threads": 3})
    for need in (stored_need, streamed_need):
        assert need(more, HEADS).memory - need(WORK, HEADS).memory == 5e8 + 2 * 100e6
        assert need(more, HEADS).disk == need(WORK, HEADS).disk


def test_one_worker_stores_and_all_workers_stream():
    assert stored_need(WORK, HEADS).hours(1e12, 1) == streamed_need(WORK, HEADS).hours(1e12, 1)
    stored, streamed = (need(WORK, HEADS).hours(1e12, 8) for need in (stored_need, streamed_need))
    assert stored - streamed == pytest.approx((1e15 - 1e15 / 8) / 1e12 / 3600)


def test_a_backbone_takes_two_operations_a_parameter_and_attention():
    assert Backbone(1e6, 2, 64).flop(10, 100) == 10 * (2e6 + 4 * 2 * 64 * 100)


@pytest.mark.parametrize(
    ("settings", "free", "cached", "streamed"),
    [
        ({}, 1e13, False, True),
        ({}, 1e9, False, True),
        ({}, 1e13, True, False),
        ({"index": "IVF64,Flat"}, 1e13, False, False),
        ({"searches": ["fde"]}, 1e13, False, False),
        ({"explain": True}, 1e13, False, False),
        ({"corpus": "stored"}, 1e9, False, False),
        ({"corpus": "streamed"}, 1e13, True, True),
    ],
)
def test_the_way_is_chosen_by_disk_unless_something_needs_all_vectors(settings, free, cached, streamed):
    config = EvalConfig(datasets=("pydocs",), **settings)
    assert choose_way(config, WORK, HEADS, cached=cached, free=free).streamed == streamed
    small = Work(**{**vars(WORK), "document_tokens": 10**6})
    assert choose_way(config, small, HEADS, cached=cached, free=1e13).streamed == (settings.get("corpus") == "streamed")


@pytest.mark.parametrize("option", ["--workers=0", "--heads=1.5", "--speed=0", "--speed=nan", "--embedding=1e9"])
def test_numbers_without_a_sense_are_refused(option, capsys):
    with pytest.raises(SystemExit) as ended:
        sys.exit(run_command(main, ["sizes", option]))
    assert ended.value.code == 2
    assert option.partition("=")[0] in capsys.readouterr().err


def test_collections_on_paper(capsys):
    evaluation = evaluation_on_paper(parameters=149e6, embedding=38.7e6, layers=22, width=768)
    work, stored, _ = paper_needs(evaluation, ["msmarco"])["msmarco"]
    assert work.document_tokens == pytest.approx(8_841_823 * (3 + 1.35 * 55.98))
    assert stored.disk == pytest.approx(work.document_tokens * 2 * 896)
    assert paper_needs(evaluation, ["scifact"])["scifact"][0].document_tokens == 5_183 * 180
    values = sizes_value(evaluation, speed=4e14, workers=8)
    assert [row["collection"] for row in values] == [*COLLECTIONS, "all"]
    assert values[-1]["hours"] == pytest.approx(sum(row["hours"] for row in values[:-1]))
    assert all(len(row) == len(HEADER) for row in sizes_rows(evaluation, speed=4e14, workers=8))
    print_sizes(evaluation, speed=4e14, workers=8)
    assert capsys.readouterr().out.count("\n") == len(COLLECTIONS) + 3
