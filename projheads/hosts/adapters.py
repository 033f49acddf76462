"""Model folders whose backbone is saved as an adapter of peft: opening one merges it into its base model."""

import atexit
import contextlib
import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from projheads.errors import ProjheadsError
from projheads.hosts.backbone import cannot_open, resolve_backbone, transformer_subfolder
from projheads.hosts.base import OpenOptions
from projheads.hosts.head_files import read_object
from projheads.hosts.quiet import quiet, seeded
from projheads.hosts.trust import check_links

__all__ = ["ADAPTER_FILE", "ADAPTER_WEIGHTS", "has_adapter", "without_adapter"]

ADAPTER_FILE = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_UNMERGED = (".lora_", ".base_layer.")

_MERGED: dict[tuple[Path, int], Path] = {}
"""The merged copies that this process has made, by the folder and the time at which its adapter was written."""


def has_adapter(folder: Path) -> bool:
    """Return whether the backbone of a model folder is saved as an adapter."""
    with contextlib.suppress(ProjheadsError):  # no transformer comes first
        return (folder / transformer_subfolder(folder) / ADAPTER_FILE).is_file()
    return False


def without_adapter(folder: Path, options: OpenOptions) -> Path:
    """Return a model folder with a complete backbone: the folder, or a temporary copy in which its adapter is merged.

    The copy is deleted when the process ends.

    Raises:
        ProjheadsError: If peft is not installed, the base model cannot be opened, the adapter does not fit it, or the
            weights contain an adapter without its configuration.
    """
    inside = transformer_subfolder(folder)
    if not has_adapter(folder):
        _check_merged(folder / inside)
        return folder
    weights = folder / inside / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise ProjheadsError(f"{weights}: no such file; it holds the adapter's weights")
    check_links(folder)
    known = folder, weights.stat().st_mtime_ns
    if known not in _MERGED:
        copy = Path(tempfile.mkdtemp(prefix="projheads-"))
        atexit.register(shutil.rmtree, copy, ignore_errors=True)
        ignored = shutil.ignore_patterns(ADAPTER_FILE, ADAPTER_WEIGHTS)
        shutil.copytree(folder, copy, dirs_exist_ok=True, ignore=ignored)
        _merge(folder / inside, copy / inside, options)
        _MERGED[known] = copy
    return _MERGED[known]


def _merge(adapter: Path, to: Path, options: OpenOptions) -> None:
    """Write the weights of an adapter's base model with the adapter merged into them."""
    if importlib.util.find_spec("peft") is None:
        raise ProjheadsError(f"{adapter}: its backbone is an adapter (LoRA), which needs peft; pip install peft")
    base = read_object(adapter / ADAPTER_FILE).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ProjheadsError(f"{adapter / ADAPTER_FILE}: names no base model; add base_model_name_or_path")
    revision = read_object(adapter / ADAPTER_FILE).get("revision")
    found = resolve_backbone(base, OpenOptions(revision, options.trust_remote_code))
    try:
        with quiet(), seeded(0):  # for weights that the base model lacks
            model = _merged(adapter, found / transformer_subfolder(found), options)
        kept = {file.name: file.read_bytes() for file in to.glob("config.json")}
        model.save_pretrained(to)
    except ProjheadsError:
        raise
    except Exception as error:  # peft and transformers fail in all kinds of ways on files that do not fit
        raise cannot_open("adapter", adapter, error) from error
    for name, content in kept.items():
        (to / name).write_bytes(content)


def _merged(adapter: Path, base: Path, options: OpenOptions) -> Any:
    from peft import PeftModel, get_peft_model_state_dict
    from transformers import AutoModel

    opened = {"trust_remote_code": options.trust_remote_code, "local_files_only": True, "dtype": "float32"}
    model = AutoModel.from_pretrained(base, **opened)
    size = read_object(adapter / "config.json").get("vocab_size") if (adapter / "config.json").is_file() else None
    if isinstance(size, int) and size != model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(size, mean_resizing=False)
    adapted = PeftModel.from_pretrained(model, str(adapter))
    with safe_open(adapter / ADAPTER_WEIGHTS, framework="pt") as saved:
        missing = get_peft_model_state_dict(adapted, save_embedding_layers=False).keys() - set(saved.keys())
    if missing:
        raise ProjheadsError(f"{adapter / ADAPTER_WEIGHTS}: does not fit {base}, for which it lacks {min(missing)}")
    return adapted.merge_and_unload(safe_merge=True)


def _check_merged(folder: Path) -> None:
    """Check that a transformer's weights contain no adapter, which a host may replace by random weights."""
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as weights:
                found = any(part in name for name in weights.keys() for part in _UNMERGED)  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ProjheadsError(f"{file}: is not a safetensors file ({error})") from error
        if found:
            raise ProjheadsError(
                f"{folder}: holds an unmerged adapter (LoRA) without {ADAPTER_FILE}; merge it with peft's "
                "merge_and_unload() and save the result"
            )
