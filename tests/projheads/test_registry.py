"""The registry: options read off constructors, checks, files found by themselves, third parties."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

import projheads
from projheads import (
    Head,
    HeadSpec,
    ProjheadsError,
    build_head,
    check_spec,
    head_class,
    head_options,
    list_heads,
    list_presets,
    register_head,
    registry,
)
from projheads.presets import preset

PACKAGE = Path(projheads.__file__).parent


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    list_heads()
    monkeypatch.setattr(registry, "_HEADS", dict(registry._HEADS))


def python(code, path, *arguments):
    """Run code in a new interpreter that imports from ``path`` first; returns what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, cwd=path, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_heads_are_the_files_of_the_folder():
    files = {path.stem for path in (PACKAGE / "heads").glob("*.py")} - {"__init__"}
    assert set(list_heads()) == files
    assert set(list_heads()) >= {"linear", "ffn", "glu", "residual", "upscaled"}


NEW_HEAD = '''"""twice: y = 2 W x."""
from torch import nn
from projheads.head import Head
from projheads.registry import register_head

@register_head("twice")
class Twice(Head):
    """A matrix and a factor."""
    def __init__(self, in_features, out_features, *, factor: float = 2.0):
        super().__init__(in_features, out_features)
        self.factor = factor
        self.linear = nn.Linear(in_features, out_features, bias=False)
    def reset_parameters(self):
        self.linear.reset_parameters()
    def forward(self, x):
        return self.factor * self.linear(x)
'''


def test_adding_a_head_is_adding_a_file_and_removing_one_is_deleting_it(tmp_path):
    copied = tmp_path / "projheads"
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    (copied / "heads" / "twice.py").write_text(NEW_HEAD)
    (copied / "heads" / "glu.py").unlink()
    code = (
        "import projheads; print(*projheads.list_heads()); print(projheads.head_cost(projheads.build_head("
        "'residual(inner=twice(factor=3))', 8, 4)).parameters); print(len(projheads.check_head('twice')))"
    )
    heads, parameters, checks = python(code, tmp_path).splitlines()
    assert set(heads.split()) == {*list_heads(), "twice"} - {"glu"}
    assert int(parameters) == 2 * 8 * 4
    assert int(checks) > 10


def test_entry_points_of_other_packages_register(tmp_path):
    (tmp_path / "third_party_heads.py").write_text(NEW_HEAD)
    information = tmp_path / "third_party_heads-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party-heads\nVersion: 1.0\n")
    points = information / "entry_points.txt"
    points.write_text("[projheads.heads]\ntwice = third_party_heads\n")
    search = os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])
    code = "import sys; sys.path[:0] = sys.argv[1].split(':'); import projheads\n"
    assert "twice" in python(code + "print(projheads.list_heads())", tmp_path, search)
    points.write_text("[projheads.heads]\ntwice = third_party_heads_moved\n")
    code += "print(projheads.list_heads())\n"
    code += "try: projheads.build_head('twice', 8, 4)\nexcept ValueError as error: print(error)"
    heads, line = python(code, tmp_path, search).splitlines()
    assert "linear" in heads  # one broken package does not hide the others
    assert 'unknown head "twice"' in line
    assert "twice = third_party_heads_moved" in line
    assert "ModuleNotFoundError" in line


def test_a_file_of_heads_can_be_imported(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(NEW_HEAD)
    assert registry.import_head_file(file) == ["twice"]
    assert build_head("twice(factor=3)", 8, 4).factor == 3.0
    assert registry.import_head_file(file) == ["twice"]
    file.write_text(NEW_HEAD + "\n# changed\n")
    with pytest.raises(ProjheadsError, match=r'"twice".* taken by projheads_head_file_mine\.Twice'):
        registry.import_head_file(file)
    for content, message in [
        ("x = 1", "registers no head"),
        ("x = ", "SyntaxError"),
        ("import nothing_here", "nothing_here"),
    ]:
        file.write_text(content)
        with pytest.raises(ProjheadsError, match=f"mine.py: .*{message}"):
            registry.import_head_file(file)
    with pytest.raises(ProjheadsError, match="no such Python file"):
        registry.import_head_file(tmp_path / "absent.py")


@pytest.mark.parametrize("name, owner", [("linear", "projheads.heads.linear.Linear"), ("lateon", "a preset")])
def test_a_name_is_registered_once(name, owner):
    with pytest.raises(ProjheadsError, match=f"taken by {owner}"):
        register_head(name)(type("Other", (head_class("linear"),), {}))
    assert head_class("linear").__module__ == "projheads.heads.linear"


class NoWidths(Head):
    def __init__(self, width: int) -> None: ...


class NoDefault(Head):
    def __init__(self, in_features: int, out_features: int, *, depth: int) -> None: ...


class Positional(Head):
    def __init__(self, in_features: int, out_features: int, depth: int = 2) -> None: ...


class Untyped(Head):
    def __init__(self, in_features: int, out_features: int, *, depth=2) -> None: ...


class Anything(Head):
    def __init__(self, in_features: int, out_features: int, **options: int) -> None: ...


@pytest.mark.parametrize("cls", [NoWidths, NoDefault, Positional, Untyped, Anything, dict])
def test_constructors_of_another_form_are_refused(cls):
    with pytest.raises(ProjheadsError, match='head "mine"'):
        register_head("mine")(cls)
    assert "mine" not in list_heads()


class Options(Head):
    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        number: float = 1.0,
        word: Literal["one", "two"] | tuple[Literal["one", "two"], ...] = "one",
        widths: int | tuple[int, ...] | None = None,
        inner: HeadSpec = HeadSpec("linear"),  # noqa: B008
        flag: bool = False,
        text: str = "",
    ) -> None:
        super().__init__(in_features, out_features)
        self.given = {"number": number, "word": word, "widths": widths, "inner": inner, "flag": flag, "text": text}


def test_options_are_the_constructors_signature():
    register_head("mine")(Options)
    options = head_options("mine")
    assert {name: (option.kind, option.default, option.choices) for name, option in options.items()} == {
        "number": ("float", 1.0, ()),
        "word": ("one|two or tuple of one|two", "one", ("one", "two")),
        "widths": ("int or tuple of int or none", None, ()),
        "inner": ("head", HeadSpec("linear"), ()),
        "flag": ("true|false", False, ()),
        "text": ("text", "", ()),
    }


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("mine(number=2)", "mine(number=2.0)"),
        ("mine(inner=glu)", "mine(inner=glu())"),
        ("mine(inner='glu(factor=2)')", "mine(inner=glu(factor=2.0))"),
        ("mine(inner=lateon)", "mine(inner=lateon())"),
        ("mine(word=[one, two], widths=[1, 2])", 'mine(word=("one", "two"), widths=(1, 2))'),
        ("mine(widths=none, flag=true, text=x)", 'mine(widths=none, flag=true, text="x")'),
    ],
)
def test_values_are_converted_to_the_declared_types(text, canonical):
    register_head("mine")(Options)
    assert str(check_spec(text)) == canonical
    assert check_spec(canonical) == check_spec(text)
    head = build_head(text, 8, 4)
    assert str(head.spec) == canonical
    assert {**head.given, **head.spec.options} == head.given


@pytest.mark.parametrize(
    "text, line",
    [
        ("mine(number=true)", 'head "mine": number=true must be float'),
        ("mine(number=x)", 'head "mine": number="x" must be float'),
        ("mine(widths=2.5)", 'head "mine": widths=2.5 must be int or tuple of int or none'),
        ("mine(widths=(1, true))", 'head "mine": widths=(1, true) must be int or tuple of int or none'),
        ("mine(widths=true)", 'head "mine": widths=true must be int or tuple of int or none'),
        ("mine(flag=1)", 'head "mine": flag=1 must be true|false'),
        ("mine(inner=3)", 'head "mine": inner=3 must be head'),
        ("mine(text=3)", 'head "mine": text=3 must be text'),
        ("mine(word=5)", 'head "mine": word=5 must be one|two or tuple of one|two'),
        ("mine(word=tow)", 'unknown word of head mine "tow"; known: one, two; did you mean "two"?'),
        ("mine(word=(one, tow))", 'unknown word of head mine "tow"; known: one, two; did you mean "two"?'),
        (
            "mine(wrod=one)",
            'unknown option of head mine "wrod"; known: flag, inner, number, text, widths, word; did you mean "word"?',
        ),
        ("mine(inner=glu(actvation=silu))", 'unknown option of head glu "actvation"'),
        ("plain(depth=2)", 'head "plain" takes no options, but "depth" was given'),
        ("liner", 'did you mean "linear"?'),
        ("latenon", 'did you mean "lateon"?'),
        ("lateon(depth=2)", '"lateon" is a preset and takes no options'),
    ],
)
def test_mistakes_get_one_line(text, line):
    register_head("mine")(Options)
    register_head("plain")(type("Plain", (Head,), {}))
    with pytest.raises(ProjheadsError) as error:
        check_spec(text)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", list_presets())
def test_presets_name_heads_that_exist(name):
    assert str(check_spec(name)) == name
    assert check_spec(preset(name).spec) == preset(name).spec
    assert preset(name).source


@pytest.mark.parametrize("name", list_heads())
def test_a_heads_file_begins_with_its_formula(name):
    doc = registry.head_doc(name)
    assert doc.startswith(f"{name}: ")
    assert "arXiv" in doc


@pytest.mark.parametrize("line", ["import sys; sys.exit()", "raise SystemExit(3)", "exit('gone')", "quit", "1 / 0"])
def test_a_head_file_that_ends_the_process_is_an_error_of_the_file(tmp_path, line):
    file = tmp_path / "ends.py"
    file.write_text(f"{line}\n")
    with pytest.raises(ProjheadsError, match=r"ends\.py: "):
        registry.import_head_file(file)
