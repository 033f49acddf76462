"""Model folders with any kind of damage: every command succeeds or ends with one line about it."""

import json
import shutil
from contextlib import redirect_stderr, suppress
from io import StringIO

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from projheads.__main__ import main
from projheads.build import build_head
from projheads.errors import ProjheadsError
from projheads.hosts import available_hosts, detect_host, load_host
from projheads.hosts.base import DEFAULT_OPTIONS, EncodingSettings
from projheads.hosts.model_folder import read_head, read_settings
from projheads.hosts.opening import find_model
from tests.fuzz import fuzz

FORMS = ["ours", "dense-chain", "stanford"]
VALUES = [None, True, 0, -1, 2**70, 1e308, "", "x", "\x00", "\ud800", "a" * 300, [], {}, [[]], {"a": 1}, ["a"], [None]]


@pytest.fixture(scope="module", params=available_hosts())
def models(request, backbone, tmp_path_factory):
    """A model of each form, by its name."""
    folder, host = tmp_path_factory.mktemp(request.param), load_host(request.param)
    head = build_head("ffn", 32, 8, generator=torch.Generator().manual_seed(1))
    settings = EncodingSettings(query_length=12, document_length=16)
    host.create(str(backbone), head, settings).save(folder / "ours")
    for form in FORMS[1:]:
        assert main(["export", str(folder / "ours"), str(folder / form), "--to", form]) == 0
    return folder


def change_json(draw, value):
    """Replace, add or remove one value anywhere inside."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value))) if isinstance(value, dict) else draw(st.integers(0, len(value) - 1))
        if draw(st.integers(0, 4)):
            value[key] = change_json(draw, value[key])
        else:
            del value[key]
        return value
    return draw(st.sampled_from(VALUES))


def damage(draw, file):
    """Change a file in one of the ways in which files get damaged."""
    data = file.read_bytes()
    kind = draw(st.sampled_from(["json", "json", "json", "flip", "cut", "empty", "missing", "folder", "deep", "swap"]))
    if kind == "json" and file.suffix != ".safetensors" and data[:1] in (b"{", b"["):
        file.write_text(json.dumps(change_json(draw, json.loads(data))))
    elif kind == "flip":
        place = draw(st.integers(0, min(len(data), 3000) - 1))
        file.write_bytes(
            data[:place] + bytes([data[place] ^ draw(st.sampled_from([1, 4, 32, 128]))]) + data[place + 1 :]
        )
    elif kind in ("missing", "folder"):
        file.unlink()
        if kind == "folder":
            file.mkdir()
    else:
        short = {"empty": b"", "deep": b'{"a": ' * 100_000, "swap": b"{}"}
        file.write_bytes(short.get(kind, data[: draw(st.integers(0, len(data) - 1))]))


@pytest.fixture(scope="session")
def copies(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@fuzz(25)
@given(st.data())
def test_a_damaged_model_is_opened_or_refused_in_one_line(models, copies, data):
    form, draw = data.draw(st.sampled_from(FORMS)), data.draw
    copy = copies / "model"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(models / form, copy)
    files = sorted(file for file in copy.rglob("*") if file.is_file() and file.stat().st_size)
    file = draw(st.sampled_from(files))
    damage(draw, file)
    for use in (
        lambda: detect_host(copy),
        lambda: read_head(find_model(str(copy), DEFAULT_OPTIONS)),
        lambda: read_settings(copy),
        lambda: load_host().load(str(copy)),
    ):
        with suppress(ProjheadsError):
            use()
    shutil.rmtree(copies / "out", ignore_errors=True)
    command = draw(
        st.sampled_from([["fold"], ["export", "--to", "dense-chain"], ["export", "--to", "stanford"], ["swap"]])
    )
    words = (
        [*command, str(copy), str(copies / "out")]
        if command != ["swap"]
        else ["swap", str(copy), "linear", str(copies / "out")]
    )
    with redirect_stderr(StringIO()) as said:
        code = main(words)
    assert code in (0, 2)
    assert code == 0 or (said.getvalue().startswith("error: ") and said.getvalue().count("\n") == 1)
