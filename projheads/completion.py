"""Shell completion of the console script ``projheads`` through shtab.

``shtab --shell bash --prog projheads projheads.completion.completion_parser`` prints the script; zsh and tcsh work too.
"""

import argparse
import importlib
import importlib.util
from pathlib import Path

from projheads.__main__ import PROGRAMS, command_parser

__all__ = ["completion_parser"]

_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
"""What shtab calls the completion of file names in each shell."""

_PATHS = ("CONFIG", "FOLDER", "MODEL", "OUT")


def completion_parser() -> argparse.ArgumentParser:
    """Return the parser of ``projheads`` with the programs of a checkout, for shtab; it is not meant for parsing."""
    parser = command_parser()
    commands = _subparsers(parser)
    if commands is not None:
        for name in filter(importlib.util.find_spec, PROGRAMS):
            program: argparse.ArgumentParser = importlib.import_module(f"{name}.__main__").command_parser()
            inside = _subparsers(program)
            choices = {} if inside is None else inside.choices
            program = choices.get("CONFIG", program)  # train takes a file or the name of a command in the same place
            commands.add_parser(name, parents=[program], add_help=False, help=program.description)
    _complete_files(parser)
    return parser


def _subparsers(parser: argparse.ArgumentParser) -> "argparse._SubParsersAction[argparse.ArgumentParser] | None":
    return next((action for action in parser._actions if isinstance(action, argparse._SubParsersAction)), None)


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Let arguments that are paths complete file names."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command)
        elif action.type is Path or action.metavar in _PATHS:
            action.complete = _FILES  # type: ignore[attr-defined]
