"""What the documents tell people to run does run."""

import contextlib
import importlib
import io
import json
import shlex
from pathlib import Path

import pytest

from experiment.config.load import load_config
from experiment.disk.yaml12 import read_yaml
from projheads import list_heads, registry
from projheads.hosts import available_hosts
from tests.docs.snippets import ROOT, find_snippets, marks_in
from tests.eval.report.factory import make_experiment

SNIPPETS = find_snippets()
FILES = {snippet.argument: snippet.text for snippet in SNIPPETS if snippet.mark == "file"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in which a reader of the documents could stand: the files that they show, and finished experiments."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my.run").write_text("q Q0 d 1 2.0 x\n")
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    for name in ("my", "other"):
        make_experiment(tmp_path / "outputs" / name)
    monkeypatch.chdir(tmp_path)
    list_heads()
    monkeypatch.setattr(registry, "_HEADS", dict(registry._HEADS))


def commands(snippet):
    """Split a block into the arguments of its python commands; comments are for the reader."""
    lines = [shlex.split(line, comments=True) for line in snippet.text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line]


def run_command(arguments):
    """Run ``python -m MODULE ...`` in this process."""
    module = importlib.import_module(f"{arguments[2]}.__main__")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        if arguments[2] == "projheads":
            code = module.main(arguments[3:])
        else:
            from experiment.console.command import run_command as run

            code = run(module.main, arguments[3:])
    assert not code, f"{shlex.join(arguments)}: {printed.getvalue()}"


def test_every_mark_is_of_a_known_form():
    pages = {snippet.page for snippet in SNIPPETS}
    assert sum(marks_in((ROOT / page).read_text(encoding="utf-8")) for page in pages) == len(SNIPPETS)
    assert {snippet.mark for snippet in SNIPPETS} == {"run", "dry-run", "file", "part"}


def merged(whole, part):
    both = {key: merged(whole[key], part[key]) for key in whole.keys() & part.keys() if isinstance(whole[key], dict)}
    return whole | part | both


@pytest.mark.parametrize("snippet", [s for s in SNIPPETS if s.mark == "part"], ids=str)
def test_a_part_of_a_configuration_is_right(snippet, folder):
    whole, _ = read_yaml(FILES["my.yaml"], "my.yaml")
    part, _ = read_yaml(snippet.text, str(snippet))
    Path("part.yaml").write_text(json.dumps(merged(whole, part)))
    load_config(Path("part.yaml"))


@pytest.mark.parametrize("snippet", [s for s in SNIPPETS if s.mark == "dry-run"], ids=str)
def test_a_command_that_takes_long_is_right(snippet, folder):
    for arguments in commands(snippet):
        assert arguments[:2] == ["python", "-m"]
        run_command([*arguments, *([] if "--dry-run" in arguments else ["--dry-run"])])


@pytest.mark.parametrize("snippet", [s for s in SNIPPETS if s.mark == "run" and s.language == "bash"], ids=str)
def test_a_command_runs(snippet, folder):
    for arguments in commands(snippet):
        assert arguments[:2] == ["python", "-m"]
        run_command(arguments)


@pytest.mark.parametrize("snippet", [s for s in SNIPPETS if s.mark == "run" and s.language == "python"], ids=str)
def test_a_program_runs(snippet, folder):
    if snippet.argument not in ("", *available_hosts()):
        pytest.skip(f"{snippet.argument} is not installed here")
    exec(compile(snippet.text, str(snippet), "exec"), {"__name__": "snippet"})
