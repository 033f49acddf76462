import pytest

from experiment.config.storage_forms import CODES, Code, StorageForm, check_storage, parse_storage
from projheads.errors import ProjheadsError


@pytest.mark.parametrize(
    "name, form",
    [
        ("fp16", (None, "fp16", 0)),
        ("int8", (None, "int8", 0)),
        ("pq16", (None, "pq", 16)),
        ("rq4", (None, "rq", 4)),
        ("dim64", (64, "fp16", 0)),
        ("dim64-int8", (64, "int8", 0)),
        ("dim96-pq12", (96, "pq", 12)),
        ("int4", (None, "int4", 0)),
        ("binary", (None, "binary", 0)),
        ("hamming", (None, "hamming", 0)),
        ("centred", (None, "fp16", 0, True)),
        ("centred-binary", (None, "binary", 0, True)),
        ("pool2", (None, "fp16", 0, False, 2)),
        ("pool12-pq8", (None, "pq", 8, False, 12)),
        ("dim64-centred-pool3-int4", (64, "int4", 0, True, 3)),
    ],
)
def test_a_form_is_a_width_a_code_or_both(name, form):
    assert parse_storage(name) == StorageForm(name, *form)


@pytest.mark.parametrize(
    "name, meant",
    [
        ("in8", "int8"),
        ("pq", "pq16"),
        ("dim64int8", "dim64-int8"),
        ("dim0", "dim64"),
        ("pq16x", "pq16"),
        ("centered-int8", "centred-int8"),
        ("pool", "pool2"),
        ("binray", "binary"),
    ],
)
def test_an_unknown_form_is_told_with_what_was_probably_meant(name, meant):
    with pytest.raises(ProjheadsError, match=f'unknown storage form "{name}"; write .*did you mean "{meant}"'):
        parse_storage(name)


NO_FORMS = ["", "-", "-int8", "dim64-", "dim64--", "dim64-fp16", "dim64-dim32", "zstd", "int8\n", "int8-"]
NO_FORMS += ["pool1", "pool0-int8", "pool2-pool3", "pool2-centred", "centred-dim64", "centred-", "int8-centred"]


@pytest.mark.parametrize("name", NO_FORMS)
def test_what_is_no_form_is_refused(name):
    with pytest.raises(ProjheadsError, match="unknown storage form"):
        parse_storage(name)


@pytest.mark.parametrize(
    "name, line",
    [
        ("pq24", "24 parts do not divide a vector of 128 numbers; use one of 1, 2, 4, 8, 16, 32, 64, 128"),
        ("dim48-pq32", "32 parts do not divide a vector of 48 numbers; use one of 1, 2, 3, 4, 6, 8, 12, 16, 24, 48"),
        ("dim256", "a token vector has 128 numbers, not 256"),
    ],
)
def test_a_form_that_does_not_fit_the_vectors_is_one_clear_line(name, line):
    with pytest.raises(ProjheadsError) as raised:
        check_storage(parse_storage(name), 128)
    assert str(raised.value) == f'eval.storage "{name}": {line}'
    check_storage(parse_storage("rq24"), 128)
    check_storage(parse_storage("dim128"), 128)


def test_a_new_form_is_one_entry_of_the_table(monkeypatch):
    monkeypatch.setitem(CODES, "sq4", Code("sq4", "four bits a number", lambda faiss, width, parts: None))
    assert parse_storage("dim64-sq4") == StorageForm("dim64-sq4", 64, "sq4", 0)
    with pytest.raises(ProjheadsError, match=r'write fp16, int8, .*, rq<bytes>, sq4, .*did you mean "sq4"'):
        parse_storage("qs4")
