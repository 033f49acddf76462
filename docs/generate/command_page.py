"""The page of the command line: what each command prints under --help."""

import argparse
import importlib
import re
from collections.abc import Mapping
from functools import partial

__all__ = ["command_page"]

_MODULES = ("projheads", "answer", "train", "eval")

_COMPLETION = """\
## Shell completion

[shtab](https://docs.iterative.ai/shtab/) makes a completion script of the console script `projheads` for bash, zsh or
tcsh. In a checkout it also completes `projheads train`, `projheads eval` and `projheads answer`.

```bash
pip install shtab
shtab --shell bash --prog projheads projheads.completion.completion_parser \\
    > ~/.local/share/bash-completion/completions/projheads
```"""


def command_page() -> str:
    """Return the page's Markdown."""
    parts = [
        "# Command line",
        "What each command prints under `--help`. If something in the input is wrong, every command prints one line "
        "and exits with code 2. With `--json`, the output holds the result as JSON and nothing else.",
    ]
    for module in _MODULES:
        parser: argparse.ArgumentParser = importlib.import_module(f"{module}.__main__").command_parser()
        parts += [f"## python -m {module}", _help(parser)]
        for name, command in _commands(parser).items():
            parts += [f"### python -m {module} {name}", _help(command)]
    return "\n\n".join([*parts, _COMPLETION]) + "\n"


def _commands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the subparsers of a parser by name."""
    return {
        name: command
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, command in action.choices.items()
    }


def _help(parser: argparse.ArgumentParser) -> str:
    parser.formatter_class = partial(parser.formatter_class, width=98)
    return f"```text\n{re.sub(r'[ ]+$', '', parser.format_help(), flags=re.MULTILINE).strip()}\n```"
