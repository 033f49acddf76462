"""python -m projheads, called as a function and, once, as a command."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import projheads
from projheads import HeadSpec, list_heads, list_presets, registry
from projheads.__main__ import main
from projheads.listing import Table, print_blocks

ROOT = Path(__file__).parents[2]

FILE = '''
from torch import nn
from projheads import Head, register_head

@register_head("{name}")
class Mine(Head):
    """{name}: y = W x."""
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        self.linear = nn.Linear(in_features, out_features)
    def reset_parameters(self):
        self.linear.reset_parameters()
    def forward(self, x):
        return self.linear(x){broken}
'''


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    list_heads()
    monkeypatch.setattr(registry, "_HEADS", dict(registry._HEADS))
    monkeypatch.setattr(registry, "_FILES", {})


def test_list_names_everything(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in [*list_heads(), *list_presets()])
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert list(listed["heads"]) == list_heads()
    assert list(listed["presets"]) == list_presets()
    assert listed["presets"]["edge"]["spec"] == "ffn(depth=2, hidden_features=512)"


def test_show_tells_the_cost(capsys):
    assert main(["show", "lateon"]) == 0
    text = capsys.readouterr().out
    assert "lateon, 768 -> 128" in text
    assert "4,816,896" in text
    assert "folds into one matrix    yes" in text
    assert text == "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    assert main(["show", "ffn(activation=gelu)", "--in", "24", "--out", "16", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["spec"] == 'ffn(activation="gelu")'
    assert shown["multiply_adds"] == 24 * 24 + 24 * 16
    assert shown["why_not"] == "the activation gelu of layer 1"
    assert shown["schema"]["dropout"] == {"type": "float", "default": "0.0"}


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"projheads {projheads.__version__}\n"


def test_heads_is_another_word_for_list_and_no_word_prints_the_help(capsys):
    assert main(["heads", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["heads"]) == list_heads()
    assert main([]) == 2
    assert "usage: " in capsys.readouterr().err


@pytest.mark.parametrize("program", ["train", "eval", "answer"])
def test_the_script_runs_the_programs_of_the_checkout_from_anywhere(program, tmp_path):
    code = f"import sys; sys.argv = ['projheads', '{program}', '--version']\n"
    code += "from projheads.__main__ import command; command()"
    paths = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=paths, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"projheads {projheads.__version__}\n")


def test_check_takes_registered_names(capsys):
    assert main(["check", "lateon", "--json"]) == 0
    assert "gradients" in json.loads(capsys.readouterr().out)["lateon"]
    assert main(["check", "liner"]) == 2
    assert 'did you mean "linear"' in capsys.readouterr().err


def test_check_says_that_reset_parameters_is_missing(tmp_path, capsys):
    file = tmp_path / "mine.py"
    text = FILE.format(name="forgetful", broken="")
    file.write_text(text.replace("    def reset_parameters(self):\n        self.linear.reset_parameters()\n", ""))
    assert main(["check", str(file)]) == 2
    assert "has no reset_parameters; define one" in capsys.readouterr().err


def test_a_package_whose_heads_cannot_be_imported_is_a_warning(monkeypatch, capsys):
    monkeypatch.setattr(registry, "_BROKEN", ['entry point "a = b" cannot be loaded'])
    assert main(["list"]) == 0
    assert 'warning: entry point "a = b" cannot be loaded' in capsys.readouterr().err


def test_show_warns(capsys):
    assert main(["show", "linear", "--in", "8", "--out", "16"]) == 0
    assert "warning: head linear is linear with rank 8" in capsys.readouterr().out


def test_check_runs_the_suite_on_a_file(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(FILE.format(name="mine", broken=""))
    assert main(["check", str(file), "--json"]) == 0
    assert "gradients" in json.loads(capsys.readouterr().out)["mine"]
    file.write_text(FILE.format(name="broken", broken=" + x.mean()"))
    assert main(["check", str(file)]) == 2
    assert "head broken fails the check" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["show", "ffm"], 'error: unknown head "ffm"'),
        (["show", "ffn(depth=)"], "error: head 'ffn(depth=)', character 11"),
        (["show", "linear", "--in", "0"], 'error: head "linear": in_features is 0'),
        (["check", "absent.py"], "error: absent.py: no such Python file"),
    ],
)
def test_mistakes_end_with_code_2_and_one_line(arguments, line, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(line)
    assert printed.err.count("\n") == 1


def test_a_head_of_a_users_file_is_known_to_every_command(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(FILE.format(name="mine", broken=""))
    assert main(["list", "--heads", str(file), "--json"]) == 0
    assert "mine" in json.loads(capsys.readouterr().out)["heads"]
    assert main(["show", "mine", "--heads", str(file)]) == 0, "the same file again is the same head"
    assert "mine, 768 -> 128" in capsys.readouterr().out
    assert registry.head_files(HeadSpec.parse("residual(inner=mine())")) == {
        "mine": hashlib.sha256(file.read_bytes()).hexdigest()
    }
    assert registry.head_files(HeadSpec("lateon")) == {}
    assert main(["list", "--heads", str(tmp_path / "none.py")]) == 2
    assert "none.py: no such Python file" in capsys.readouterr().err


def test_on_a_terminal_rich_prints_the_same_words(capsys):
    console = pytest.importorskip("rich.console")
    file = io.StringIO()
    table = Table("presets", [("edge", "ffn(depth=2)", "[not markup]"), ("lateon", "x" * 300, "")])
    print_blocks(["plain [red]line[/red]", table], console.Console(file=file, force_terminal=True, width=60))
    text = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert "\x1b[" in file.getvalue()
    assert "plain [red]line[/red]" in text
    assert "[not markup]" in text
    assert text.count("x") == 300, "nothing is cut off"
    assert max(map(len, text.splitlines())) <= 60


def test_without_rich_or_a_terminal_columns_are_aligned(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich", None)
    print_blocks([Table("heads", [("a", "one"), ("long", "two")]), "end"])
    assert capsys.readouterr().out == "heads\n  a     one\n  long  two\nend\n"


BARE = """
import sys
for name in ("numpy", "rich", "transformers", "huggingface_hub", "pylate", "sentence_transformers", "onnx"):
    sys.modules[name] = None
from projheads.__main__ import main
codes = [main(["list"]), main(["show", "lateon"]), main(["swap", "a/b", "linear", "out"])]
sys.exit(codes != [0, 0, 2])
"""


def test_listing_needs_torch_and_safetensors_alone():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", BARE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    advice = "it comes with a host: pip install 'projheads[pylate]'"
    assert done.stderr == f"error: huggingface_hub is not installed; {advice}\n"


def test_as_a_command():
    done = subprocess.run([sys.executable, "-m", "projheads", "show", "ffn(dept=2)"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert 'did you mean "depth"?' in done.stderr
