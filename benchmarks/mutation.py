"""Would the tests notice? The code is changed in one place at a time, and the tests of its area must fail.

``python -m benchmarks.mutation [AREA ...] [--sample 40] [--seed N] [--file PATH] [--only FILE]`` draws places of each
area at random and makes one change at each: another operator or comparison, a number one larger or smaller, a condition
turned round (cosmic-ray's operators). It prints every change that the tests do not notice, and how many there are.
``results/mutation.md`` lists the changes that no test can notice; these are counted separately.

Each change runs in a forked process that has already imported torch and other libraries, and that reads the changed
source from memory: no file is ever modified. The tests run from the fastest to the slowest, until one fails.
"""

import argparse
import ast
import contextlib
import importlib
import math
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from experiment.disk.files import read_json, write_json


@dataclass(frozen=True)
class Area:
    """Code and the tests that must notice changes of it."""

    code: tuple[str, ...]
    tests: tuple[str, ...]


AREAS = {
    "verdicts": Area(("eval/verdicts",), ("tests/eval/verdicts",)),
    "search": Area(
        ("eval/search", "eval/measures.py"),
        (
            "tests/eval/search/test_search_values.py",
            "tests/eval/search/test_search.py",
            "tests/eval/search/test_compressed.py",
            "tests/eval/test_runs.py",
        ),
    ),
    "scoring": Area(("projheads/scoring.py",), ("tests/projheads/test_scoring.py",)),
    "losses": Area(("experiment/losses",), ("tests/experiment/losses/test_losses.py",)),
    "folding": Area(("projheads/folding.py",), ("tests/projheads/test_folding.py",)),
    "optimization": Area(("train/optimization.py",), ("tests/train/test_optimization.py",)),
}

EQUIVALENT = Path("results/mutation.md")

KINDS = re.compile(
    "core/(NumberReplacer|AddNot|ReplaceTrueWithFalse|ReplaceFalseWithTrue|ReplaceAndWithOr|ReplaceOrWithAnd"
    "|ReplaceBreakWithContinue|ReplaceContinueWithBreak|ZeroIterationForLoop|ReplaceUnaryOperator_(USub|Not|Delete).*"
    "|ReplaceComparisonOperator_(Is_IsNot|IsNot_Is|In_NotIn|NotIn_In|Eq_NotEq|NotEq_Eq"
    "|Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE|GtE_Gt|GtE_Lt)"
    "|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Add_Mul|Mul_Div|Mul_Add|Div_Mul|FloorDiv_Mul|FloorDiv_Mod|Mod_FloorDiv"
    "|Pow_Mul|Pow_Div|BitAnd_BitOr|BitOr_BitAnd))"
)
"""The operators of cosmic-ray that are used. The others mostly end in a TypeError, which every test notices."""


@dataclass(frozen=True)
class Change:
    """A change of a file in one place, and its source with it."""

    file: str
    line: int
    before: str
    after: str
    source: str

    @property
    def any(self) -> str:
        """How results/mutation.md lists every change of this line."""
        return f"`{self.file}` `{self.before}` → any"

    def __str__(self) -> str:
        return f"`{self.file}` `{self.before}` → `{self.after}`"


def places(file: Path) -> list[list[tuple[Path, str, int, int]]]:
    """Return for each place of a file the changes of it that may be possible: operator, occurrence, line."""
    found = defaultdict(list)
    nodes = list(ast_nodes(get_ast(file.read_text(encoding="utf-8"))))
    for name in filter(KINDS.fullmatch, operator_names()):
        operator = get_operator(name)()
        positions = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, place in enumerate(positions):
            found[place].append((file, name, occurrence, place[0][0]))
    return [found[place] for place in sorted(found)]


def change_of(file: Path, name: str, occurrence: int, line: int) -> Change | None:
    """Make a change; None if it does not change what the code means."""
    source = file.read_text(encoding="utf-8")
    changed = mutate_code(source, get_operator(name)(), occurrence)
    try:
        if changed is None or _meaning(changed) == _meaning(source):
            return None
    except SyntaxError:
        return None
    before, after = (text.split("\n")[line - 1].strip() for text in (source, changed))
    return Change(file.as_posix(), line, before, after, changed)


def draw(name: str, size: int, seed: int, only: str | None) -> list[Change]:
    """Draw places of an area, and a change of each; all of them if ``size`` is 0."""
    generator = random.Random(seed)
    every = [place for file in _files(AREAS[name], only) for place in places(file)]
    generator.shuffle(every)
    chosen: list[Change] = []
    for place in every:
        found = change_of(*generator.choice(place))
        chosen += [found] if found else []
        if len(chosen) == size:
            break
    return chosen


def _listed(name: str, listed: set[str]) -> Iterator[Change]:
    """Make the changes of an area that are listed as they are printed."""
    for file in _files(AREAS[name], None):
        lines = file.read_text(encoding="utf-8").split("\n")
        for place in places(file):
            for one in place:
                start = f"`{file.as_posix()}` `{lines[one[3] - 1].strip()}` → "
                if any(text.startswith(start) for text in listed):
                    found = change_of(*one)
                    if found and str(found) in listed:
                        yield found


def _meaning(source: str) -> str:
    """Return what a test should notice: no annotations, and nothing that only forbids wrong calls."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for field in {"annotation", "returns"} & set(node._fields):
            setattr(node, field, ast.Constant(None))
        if isinstance(node, ast.Call):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in ("strict", "frozen")]
        if isinstance(node, ast.arguments):
            node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
            node.defaults += [default for default in node.kw_defaults if default]
            node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
    return ast.dump(tree)


class _Changed(SourceFileLoader):
    """Reads a module's source from memory."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self.source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec", dont_inherit=True)


class _Finder:
    """Finds one module, the changed one."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self.module = change.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self.module:
            return None
        file = str(Path(self.change.file).absolute())
        return spec_from_file_location(name, file, loader=_Changed(name, file, self.change.source))


class _Order:
    """A pytest plugin that runs fast tests first and notes how long each takes."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.measured: dict[str, float] = defaultdict(float)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.seconds.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.measured[report.nodeid] += report.duration


def passes(tests: Sequence[str], change: Change | None, timings: Path, limit: int) -> bool:
    """Return whether the tests pass with a change in so many seconds of CPU time; without one, write ``timings``."""
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        _run_in_child(tests, change, timings)
    end = time.monotonic() + 20 * limit
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.02)
    return ended[1] == 0


def _run_in_child(tests: Sequence[str], change: Change | None, timings: Path) -> None:
    code = 1
    try:
        if change:
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            sys.meta_path.insert(0, _Finder(change))
        known = set(sys.modules)
        order = _Order(read_json(timings)["seconds"] if change else {})
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:warnings", f"--basetemp={timings.parent / 'tests'}"]
        code = int(pytest.main([*options, *tests], plugins=[order]))
        if not change:
            loaded = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
            new = [name for name in loaded if name not in known]
            kept = [n for n in new if "site-packages" in loaded[n] or n.startswith(("projheads", "experiment"))]
            write_json(timings, {"seconds": order.measured, "modules": kept, "cpu_s": time.process_time()})
    finally:
        sys.stdout.flush()
        os._exit(code)


def examine(name: str, chosen: Sequence[Change], equivalent: set[str]) -> None:
    """Try changes of an area one by one, and print those that its tests do not notice."""
    tests = AREAS[name].tests
    with tempfile.TemporaryDirectory() as folder:
        timings = Path(folder) / "timings.json"
        if not passes(tests, None, timings, 600):
            print(f"the tests of {name} fail without any change", flush=True)
            os._exit(1)
        limit = 5 + 2 * math.ceil(read_json(timings)["cpu_s"])
        # ``projheads`` and ``experiment`` never import ``eval`` and ``train``, so there they can be loaded as well.
        changed = AREAS[name].code[0].split("/")[0]
        for module in read_json(timings)["modules"]:
            if changed in ("eval", "train") or module.split(".")[0] not in ("projheads", "experiment"):
                with contextlib.suppress(Exception):  # A library's own optional part; the tests import what they need.
                    importlib.import_module(module)
        if loaded := {_Finder(change).module for change in chosen} & set(sys.modules):
            print(f"{', '.join(sorted(loaded))}: already imported, so changes would have no effect", flush=True)
            os._exit(1)
        counts = {"noticed": 0, "equivalent": 0, "unnoticed": 0}
        for change in chosen:
            if {str(change), change.any} & equivalent:
                counts["equivalent"] += 1
            elif passes(tests, change, timings, limit):
                counts["unnoticed"] += 1
                print(f"- {change}  (line {change.line})", flush=True)
            else:
                counts["noticed"] += 1
    print(
        f"{name}: {len(chosen)} changes, " + ", ".join(f"{count} {what}" for what, count in counts.items()), flush=True
    )


def _files(area: Area, only: str | None) -> Iterator[Path]:
    for code in map(Path, area.code):
        for file in sorted(code.glob("**/*.py")) if code.is_dir() else [code]:
            if only in (None, file.as_posix()):
                yield file


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation", description=__doc__)
    parser.add_argument("areas", nargs="*", default=list(AREAS), metavar="AREA", help=f"of {', '.join(AREAS)}; all")
    parser.add_argument("--sample", type=int, default=40, help="places of an area to change; 0 for all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--file", help="change only this file")
    parser.add_argument("--only", type=Path, help="make only the changes listed in this file, as they are printed")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    line = re.compile(r"`[^`\n]+` `.+` → (?:any|`.+?`)(?=$|  \(line|:)", re.MULTILINE)
    equivalent = set(line.findall(EQUIVALENT.read_text())) if EQUIVALENT.exists() else set()
    listed = set(line.findall(options.only.read_text())) if options.only else None
    for name in options.areas:
        if name not in AREAS:
            parser.error(f'unknown area "{name}"; known: {", ".join(AREAS)}')
        if listed is None:
            chosen = draw(name, options.sample, options.seed, options.file)
        else:
            chosen = list(_listed(name, listed))
        # In a separate process, in which nothing of an earlier area is loaded.
        child = os.fork()
        if child == 0:
            examine(name, chosen, equivalent)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit(1)


if __name__ == "__main__":
    main()
