"""What a model folder could do to the program that opens it: run code, and reach files outside of it.

sentence-transformers 5 runs the code of any local folder, whatever ``trust_remote_code`` says, and PyLate calls
whatever a ``Dense`` names as its activation. So a folder is checked here before a host sees it.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from projheads.errors import ProjheadsError
from projheads.hosts.head_files import check_inside, read_json, read_modules

__all__ = ["check_code", "check_links"]

_KNOWN_CLASS = re.compile(
    r"sentence_transformers(\.\w+)+|pylate\.models(\.Dense)?\.Dense|torch\.nn(\.\w+)+"
    r"|projheads\.hosts\.(pylate|sentence_transformers)\.Projection"
)
_NAMES_OF_CLASSES = ("activation_function", "tokenizer_class", "types")
"""Keys of a module's configuration whose values a host imports."""

_READ_NO_CLASS = ("Transformer", "Pooling", "Normalize", "MultiVectorMask", "TokenPooling", "Projection")

_TRANSFORMER_FILES = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")


def check_code(folder: Path) -> None:
    """Check that opening a folder runs no code except that of the hosts, torch, transformers and projheads.

    Raises:
        ProjheadsError: If the folder names a different class, or brings code for its transformer.
    """
    modules_file = folder / "modules.json"
    modules = read_modules(modules_file) if modules_file.is_file() else []
    for module in modules:
        _check_class(modules_file, module.type)
        if module.type.rpartition(".")[2] in _READ_NO_CLASS:
            continue
        for file in sorted((folder / module.path).glob("*config.json")):
            for name in _named_classes(read_json(file)):
                _check_class(file, name)
    for place in sorted({folder, *(folder / module.path for module in modules)}):
        for file in (place / name for name in _TRANSFORMER_FILES):
            config = read_json(file) if file.is_file() else None
            if isinstance(config, dict) and config.get("auto_map") and not _is_transformers_own(config):
                raise ProjheadsError(f"{file}: brings its own code (auto_map); {_ADVICE}")


def check_links(folder: Path) -> None:
    """Check that no symbolic link leads out of a folder whose files are copied; links to a hub cache's blobs are fine.

    Raises:
        ProjheadsError: If one does.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if (path := Path(place, name)).is_symlink():
                check_inside(path, folder)


_ADVICE = "pass trust_remote_code=True if you trust its author"


def _check_class(file: Path, name: str) -> None:
    if not _KNOWN_CLASS.fullmatch(name):
        raise ProjheadsError(f'{file}: names the class "{name}", whose code would run; {_ADVICE}')


def _named_classes(config: Any) -> Iterator[str]:
    for key in _NAMES_OF_CLASSES if isinstance(config, dict) else ():
        value = config.get(key)
        yield from map(str, value.values() if isinstance(value, dict) else [] if value is None else [value])


def _is_transformers_own(config: dict[str, Any]) -> bool:
    """Return whether transformers has the class itself, in which case it ignores the folder's code."""
    try:
        import transformers
    except ImportError:
        return False
    named = (config.get(key) for key in ("tokenizer_class", "processor_class", "image_processor_type"))
    return str(config.get("model_type")) in transformers.CONFIG_MAPPING or any(
        isinstance(name, str) and hasattr(transformers, name) for name in named
    )
