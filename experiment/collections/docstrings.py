"""Docstrings of installed packages, read from their source without importing or running it."""

import ast
import importlib.util
import inspect
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Docstring", "package_root", "read_docstrings"]

TESTS = {"_testing", "benchmarks", "examples", "test", "testdata", "testing", "tests"}
COPIES = {"_numpy", "_refs", "_vendor", "externals", "models", "third_party", "vendored"}
INNER_WORKINGS = {"_decomp", "_dynamo", "_export", "_functorch", "_higher_order_ops", "_inductor", "_library", "_prims"}
INNER_WORKINGS |= {"_precompute", "_strobelight", "_subclasses", "ao", "deprecated", "distutils", "fx", "onnx"}
SKIPPED_FOLDERS = TESTS | COPIES | INNER_WORKINGS
"""Folders with few texts for users, or with texts that are repeated elsewhere."""

ADDERS = ("add_newdoc", "add_docstr")
"""Functions that add a docstring to what is written in C, in numpy, scipy and torch."""
PLACEHOLDER = re.compile(r"(?<!\{)\{\w+\}(?!\})")
"""A field that ``str.format`` fills in."""


@dataclass(frozen=True)
class Docstring:
    """A docstring as it was written, without its indentation.

    Attributes:
        path: Dotted path of what it describes, starting with the package.
        text: The docstring.
    """

    path: str
    text: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]


def package_root(package: str) -> Path | None:
    """Return the folder of an installed package, or None if it is not installed."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def read_docstrings(package: str, root: Path) -> Iterator[Docstring]:
    """Yield the docstrings of a package's classes and functions, file by file in the order of their paths."""
    files = (file.relative_to(root) for file in root.rglob("*.py"))
    for file in sorted(files, key=lambda file: file.parts):
        if SKIPPED_FOLDERS.isdisjoint(file.parts[:-1]) and not file.name.startswith(("test_", "conftest")):
            module = ".".join([package, *file.with_suffix("").parts]).removesuffix(".__init__")
            yield from _in_body(_parse(root / file).body, module)


def _parse(file: Path) -> ast.Module:
    with warnings.catch_warnings():
        # A stray backslash in a foreign string is not our concern.
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            return ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            # Some files are templates, or for other versions of Python.
            return ast.Module(body=[], type_ignores=[])


def _in_body(body: list[ast.stmt], path: str) -> Iterator[Docstring]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{path}.{node.name}"
            text = ast.get_docstring(node)
            if text:
                yield Docstring(inner, text)
            if isinstance(node, ast.ClassDef):
                yield from _in_body(node.body, inner)
        elif isinstance(node, ast.If | ast.Try):
            yield from _in_body(node.body, path)
        elif isinstance(node, ast.Expr | ast.Assign) and isinstance(node.value, ast.Call):
            yield from _added(node.value, path)


def _added(call: ast.Call, path: str) -> Iterator[Docstring]:
    """Yield the docstring that ``add_newdoc(place, "name", text)`` or ``add_docstr(place.name, text)`` adds."""
    function = ast.unparse(call.func).rpartition(".")[2].lstrip("_")
    if function not in ADDERS or len(call.args) < 2:
        return
    target, text = call.args[-2:]
    if isinstance(text, ast.Tuple) and len(text.elts) == 2:
        target, text = text.elts
    name = (str(target.value) if isinstance(target, ast.Constant) else ast.unparse(target)).rpartition(".")[2]
    written = _written(text)
    if written and name.isidentifier():
        yield Docstring(f"{path}.{name}", inspect.cleandoc(written))


def _written(text: ast.expr) -> str | None:
    """Return a string literal, or the template of a call of ``str.format``."""
    if isinstance(text, ast.Call) and isinstance(text.func, ast.Attribute) and text.func.attr == "format":
        template = _written(text.func.value)
        return template and PLACEHOLDER.sub("", template).replace("{{", "{").replace("}}", "}")
    return text.value if isinstance(text, ast.Constant) and isinstance(text.value, str) else None
