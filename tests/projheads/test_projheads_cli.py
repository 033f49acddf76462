"""python -m projheads, called as a function and, once, as a command."""

import json
import subprocess
import sys

import pytest

from projheads import list_heads, list_presets, registry
from projheads.__main__ import main

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


def test_list_names_everything(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name}: " in text for name in [*list_heads(), *list_presets()])
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
    assert "folds to one matrix      yes" in text
    assert main(["show", "ffn(activation=gelu)", "--in", "24", "--out", "16", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["spec"] == 'ffn(activation="gelu")'
    assert shown["multiply_adds"] == 24 * 24 + 24 * 16
    assert shown["why_not"] == "the activation gelu of layer 1"
    assert shown["schema"]["dropout"] == {"type": "float", "default": "0.0"}


def test_show_warns(capsys):
    assert main(["show", "linear", "--in", "8", "--out", "16"]) == 0
    assert "warning: head linear is linear and of rank 8" in capsys.readouterr().out


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


def test_as_a_command():
    done = subprocess.run([sys.executable, "-m", "projheads", "show", "ffn(dept=2)"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert 'did you mean "depth"?' in done.stderr
