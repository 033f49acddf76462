"""HeadSpec: text, JSON, equality, folder names, errors."""

import copy
import json
import keyword
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projheads import HeadSpec, ProjheadsError

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


def specs_of(values):
    return st.builds(HeadSpec, NAMES, st.dictionaries(NAMES, values, max_size=4))


VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple) | specs_of(inner), max_leaves=6)
SPECS = specs_of(VALUES)


@given(SPECS)
def test_text_reads_back(spec):
    again = HeadSpec.parse(str(spec))
    assert again == spec
    assert str(again) == str(spec)
    assert hash(again) == hash(spec)


@given(SPECS)
def test_json_pickle_and_copies_read_back(spec):
    assert HeadSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301
    assert copy.deepcopy(spec) == spec
    assert eval(repr(spec), {"HeadSpec": HeadSpec}) == spec


@given(SPECS, SPECS)
def test_slug_is_a_folder_name_of_its_own(first, second):
    assert re.fullmatch(r"[a-z][a-z0-9_.=-]{0,99}", first.slug)
    assert (first.slug == second.slug) == (first == second)


@given(NAMES, st.dictionaries(NAMES, VALUES, max_size=4))
def test_the_order_of_options_does_not_matter(name, options):
    forward, backward = HeadSpec(name, options), HeadSpec(name, dict(reversed(options.items())))
    assert forward == backward
    assert hash(forward) == hash(backward)
    assert forward.slug == backward.slug


@pytest.mark.parametrize(
    "text, spec",
    [
        ("linear", HeadSpec("linear")),
        (" linear() ", HeadSpec("linear")),
        ('ffn(depth=2, activation="gelu")', HeadSpec("ffn", {"depth": 2, "activation": "gelu"})),
        ("ffn(activation=gelu)", HeadSpec("ffn", {"activation": "gelu"})),
        ("ffn(\n  depth=2,\n  bias=True,\n)", HeadSpec("ffn", {"depth": 2, "bias": True})),
        ("a(b=true, c=false, d=none, e=None)", HeadSpec("a", {"b": True, "c": False, "d": None, "e": None})),
        ("a(b=-1, c=1e-4, d=-0.5)", HeadSpec("a", {"b": -1, "c": 0.0001, "d": -0.5})),
        ("a(b=(1536, 768), c=[1], d=())", HeadSpec("a", {"b": (1536, 768), "c": (1,), "d": ()})),
        (
            "residual(inner=glu(activation='silu'), scale=0.5)",
            HeadSpec("residual", {"inner": HeadSpec("glu", {"activation": "silu"}), "scale": 0.5}),
        ),
    ],
)
def test_what_the_text_means(text, spec):
    assert HeadSpec.parse(text) == spec


@pytest.mark.parametrize(
    "spec, text",
    [
        (HeadSpec("linear"), "linear"),
        (HeadSpec("ffn", {"depth": 2, "activation": "gelu"}), 'ffn(depth=2, activation="gelu")'),
        (HeadSpec("a", {"b": [1], "c": None, "d": HeadSpec("glu")}), "a(b=(1,), c=none, d=glu())"),
    ],
)
def test_how_it_is_written(spec, text):
    assert str(spec) == text


@pytest.mark.parametrize(
    "text, slug",
    [
        ("linear", "linear"),
        ('ffn(depth=2, activation="gelu")', "ffn-activation=gelu-depth=2"),
        ("upscaled(residual=true, factor=1.5)", "upscaled-factor=1.5-residual=true"),
    ],
)
def test_slug_of_simple_specs_needs_no_hash(text, slug):
    assert HeadSpec.parse(text).slug == slug


def test_values_that_only_look_alike_are_told_apart():
    values = [1, 1.0, True, "1", "true", "none", None, (1,), "a-b", "a b", "A", "a", 1e-5, -1]
    specs = [HeadSpec("ffn", {"x": value}) for value in values]
    assert len(set(specs)) == len({spec.slug for spec in specs}) == len(values)


@pytest.mark.parametrize(
    "text, position, message",
    [
        ("ffn(depth=)", 11, "invalid syntax"),
        ("ffn(2)", 5, "expected option=value"),
        ("ffn(depth=2, depth=3)", 14, "depth is given twice"),
        ("ffn(depth=2, **x)", 14, "expected option=value"),
        ("ffn(depth=1+1)", 11, "expected a number"),
        ("ffn(depth=-true)", 11, "expected a number"),
        ("ffn(depth=b'x')", 11, "expected a number"),
        ("ffn(name='ü', depth=1j)", 21, "expected a number"),
        ("torch.nn(depth=2)", 1, "expected the name of a head"),
        ("[x for x in y]", 1, "expected a head"),
        ("ffn(", 4, "never closed"),
    ],
)
def test_errors_give_the_position(text, position, message):
    with pytest.raises(ProjheadsError, match=rf"character {position}: .*{re.escape(message)}") as error:
        HeadSpec.parse(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "FFN", "if", "ffn(lambda=1)", "ffn(Depth=2)", "ffn(depth=1e999)", "a(b=" * 500 + "1" + ")" * 500]
)
def test_other_bad_texts(text):
    with pytest.raises(ProjheadsError):
        HeadSpec.parse(text)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"name": 3},
        {"name": "ffn", "options": [1]},
        {"name": "ffn", "option": {}},
        {"name": "ffn", "options": {"depth": {"x": 1}}},
        {"name": "../ffn"},
        {"name": "if"},
        {"name": "ffn", "options": {"depth": float("nan")}},
        {"name": "ffn", "options": {"depth": {1, 2}}},
    ],
)
def test_bad_json(data):
    with pytest.raises(ProjheadsError):
        HeadSpec.from_dict(data)


def test_a_spec_can_not_be_changed():
    options = {"depth": 2}
    spec = HeadSpec("ffn", options)
    options["depth"] = 3
    assert spec.options["depth"] == 2
    with pytest.raises(TypeError):
        spec.options["depth"] = 3
    with pytest.raises(AttributeError):
        spec.name = "glu"
