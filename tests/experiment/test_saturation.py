import pytest

from experiment.saturation import saturation_warning
from tests.eval.report.factory import sweep_record


@pytest.mark.parametrize(
    "first, second, words",
    [
        ({1e-3: [0.96, 0.97], 1e-2: [0.99, 0.98]}, {1e-3: [0.97, 0.96], 1e-2: [0.98, 0.99]}, "is above 0.95"),
        ({1e-3: [0.60, 0.70], 1e-2: [0.62, 0.72]}, {1e-3: [0.61, 0.71], 1e-2: [0.63, 0.69]}, "2 standard errors"),
        ({1e-3: [0.60, 0.61], 1e-2: [0.72, 0.73]}, {1e-3: [0.61, 0.60], 1e-2: [0.70, 0.71]}, None),
        ({1e-3: [0.96, 0.97], 1e-2: [0.99, 0.98]}, {1e-3: [0.60, 0.61], 1e-2: [0.98, 0.99]}, None),
        ({1e-3: [0.6], 1e-2: [0.7]}, {1e-3: [0.6], 1e-2: [0.7]}, None),
    ],
)
def test_a_measure_that_cannot_choose_is_named(first, second, words):
    found = saturation_warning([sweep_record(first), sweep_record(second)])
    assert (found is None) if words is None else (words in found)


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        ("nDCG@10 on 128 held-out pairs", "train.validation: {split: dev}"),
        ("nDCG@10 on all 200 queries of x (dev), over all 900 documents", "train.validation.max_documents"),
    ],
)
def test_the_advice_is_about_what_chose(measure, words):
    easy = sweep_record({1e-3: [0.988, 0.991], 1e-2: [0.997, 0.989]}, measure=measure)
    assert words in saturation_warning([easy, easy])
