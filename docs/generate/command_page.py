"""The page of the command line: what each command says of itself."""

import argparse
import contextlib
import importlib
import inspect
import io
import os
import re

__all__ = ["command_page"]

_MODULES = ("projheads", "train", "eval")


def command_page() -> str:
    """Return the page's Markdown."""
    parts = [
        "# Command line",
        "What each command says under `--help`, taken from it when the site is built. Where something in the input is "
        "wrong, every command prints one line and exits with code 2.",
    ]
    for module in _MODULES:
        parts += [f"## python -m {module}", f"```text\n{_help(module, '')}\n```"]
        for command in _commands(module):
            parts += [f"### python -m {module} {command}", f"```text\n{_help(module, command)}\n```"]
    return "\n\n".join(parts) + "\n"


def _commands(module: str) -> list[str]:
    """Return the commands of a module: those of its parser, or those that its text tells of."""
    code = importlib.import_module(f"{module}.__main__")
    if hasattr(code, "command_parser"):
        actions = [
            action for action in code.command_parser()._actions if isinstance(action, argparse._SubParsersAction)
        ]
        return [command for action in actions for command in action.choices]
    said = re.findall(rf"python -m {module} (--model|[a-z]+)\b", inspect.getsource(code))
    return list(dict.fromkeys(said))


def _help(module: str, command: str) -> str:
    main = importlib.import_module(f"{module}.__main__").main
    output = io.StringIO()
    arguments = sorted([*command.split(), "--help"]) if command.startswith("--") else [*command.split(), "--help"]
    os.environ["COLUMNS"] = "100"
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        main(arguments)
    if not output.getvalue().startswith("usage"):
        raise RuntimeError(f"python -m {module} {' '.join(arguments)} printed no usage")
    return re.sub(r"[ \t]+\n", "\n", output.getvalue()).strip()
