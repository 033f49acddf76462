"""``import projheads`` is cheap, and its list of names is the truth."""

import ast
import importlib
import inspect
import subprocess
import sys

import pytest

import projheads


@pytest.mark.parametrize(
    "statement", ["import projheads", "from projheads import HeadSpec, list_presets, ProjheadsError"]
)
def test_torch_is_not_imported(statement):
    code = f"import sys; {statement}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", projheads.__all__)
def test_public_names_come_from_the_module_that_lists_them(name):
    module = importlib.import_module(f"projheads.{projheads._MODULE_OF[name]}")
    assert name in module.__all__
    assert getattr(projheads, name) is getattr(module, name)


def test_typed_and_lazy_names_are_the_same():
    tree = ast.parse(inspect.getsource(projheads))
    typed = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("projheads.")
        for alias in node.names
    }
    assert typed == {name: f"projheads.{module}" for name, module in projheads._MODULE_OF.items()}
    assert sorted(typed) == sorted(projheads.__all__) == sorted(dir(projheads))


def test_no_module_hides_a_public_name():
    assert not set(projheads.__all__) & set(projheads._MODULES)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'buildhead'"):
        projheads.buildhead  # noqa: B018
