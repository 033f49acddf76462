"""Names of measures are checked before any work is done."""

import pytest

from experiment.measure_names import check_measures, parse_measure
from projheads.errors import ProjheadsError, UnknownNameError


@pytest.mark.parametrize(
    "name",
    [
        "nDCG@10",
        "R@100",
        "RR@10",
        "MRR@10",
        "AP",
        "P(rel=2)@5",
        "Success@1",
        "nDCG",
        "Judged@10",
        "Bpref",
        "nDCG(dcg='exp-log2')@10",
    ],
)
def test_measures_that_can_be_computed_are_accepted(name):
    check_measures([name], depth=100)


@pytest.mark.parametrize(
    "name, line",
    [
        ("ndcg@10", 'unknown measure "ndcg@10"; known: AP,'),
        ("ndcg@10", 'did you mean "nDCG"?'),
        ("nDGC@10", 'did you mean "nDCG"?'),
        ("Recal@10", 'did you mean "Recall"?'),
        ("P", "its parameters do not fit; it takes cutoff, rel, judged_only"),
        ("nDCG(foo=1)@3", "its parameters do not fit"),
        ("nDCG@ten", "is not an expression of ir-measures"),
        ("nDCG@10@5", "is not an expression of ir-measures"),
        ("a b", "is not an expression of ir-measures"),
        ("", "is not an expression of ir-measures"),
        ("P@0", "its cutoff must be at least 1"),
        ("alpha_nDCG@10", "no installed library computes it"),
        ("nDCG@101", "measure nDCG@101 needs 101 documents, but runs keep 100; raise eval.depth"),
    ],
)
def test_others_are_one_clear_line(name, line):
    with pytest.raises(ProjheadsError) as raised:
        check_measures(["R@100", name], depth=100)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unknown_name_is_an_unknown_name_error():
    with pytest.raises(UnknownNameError):
        parse_measure("F1")
