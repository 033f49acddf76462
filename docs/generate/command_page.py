"""The page of the command line: what each command says of itself."""

import contextlib
import importlib
import io
import os
import re

__all__ = ["command_page"]

# Module -> its commands; "" is the module without a command.
_COMMANDS = {
    "projheads": ["list", "show", "check"],
    "train": [""],
    "eval": ["", "report", "plan", "compare", "score"],
}


def command_page() -> str:
    """Return the page's Markdown."""
    parts = [
        "# Command line",
        "What each command says under `--help`, taken from it when the site is built. Where something in the input is "
        "wrong, every command prints one line and exits with code 2.",
    ]
    for module, commands in _COMMANDS.items():
        parts.append(f"## python -m {module}")
        for command in commands:
            if command:
                parts.append(f"### python -m {module} {command}")
            parts.append(f"```text\n{_help(module, command)}\n```")
    return "\n\n".join(parts) + "\n"


def _help(module: str, command: str) -> str:
    main = importlib.import_module(f"{module}.__main__").main
    output = io.StringIO()
    arguments = [*command.split(), "--help"]
    os.environ["COLUMNS"] = "100"
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        main(arguments)
    if not output.getvalue().startswith("usage"):
        raise RuntimeError(f"python -m {module} {' '.join(arguments)} printed no usage")
    return re.sub(r"[ \t]+\n", "\n", output.getvalue()).strip()
