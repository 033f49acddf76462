"""What the adapters of both hosts have in common; imports neither host."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from projheads.build import build_head
from projheads.errors import ProjheadsError
from projheads.folding import nonlinear_part
from projheads.head import Head, reference_tensor
from projheads.hosts.backbone import check_lengths
from projheads.hosts.base import FoundProjection, StrPath
from projheads.hosts.head_files import (
    CONFIG_FILE,
    HEAD_FILE,
    WEIGHTS_FILE,
    head_config,
    load_head,
    save_head,
    write_head_config,
)
from projheads.hosts.model_folder import projections, read_named_head
from projheads.hosts.quiet import quiet
from projheads.hosts.tokenizer import pad_on_the_right
from projheads.spec import HeadSpec

__all__ = [
    "HeadModule",
    "NativeModel",
    "TokenView",
    "as_head",
    "check_width",
    "in_sequence",
    "mean_new_rows",
    "replace_modules",
    "restore_head",
]

_CHUNK_BYTES = 2**20


class HeadModule(nn.Module):
    """Makes a host's module class one that holds a head; comes before the host's class among the bases.

    Attributes:
        head: The head that is applied to the token states.
    """

    head: Head
    in_features: int
    out_features: int

    def hold(self, head: Head) -> None:
        """Set the head; for the constructor."""
        self.head = head
        self.in_features = head.in_features
        self.out_features = head.out_features

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Replace ``token_embeddings`` (B, L, in_features) by (B, L, out_features)."""
        features["token_embeddings"] = self.head(features["token_embeddings"])
        return features

    def get_config_dict(self) -> dict[str, Any]:
        """Return the contents of config.json."""
        return head_config(self.head)

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write config.json and model.safetensors, whatever format the host asks for."""
        save_head(self.head, Path(output_path))

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Read the module from a model folder or the hub; both hosts call it.

        Raises:
            ProjheadsError: If the files are not exactly a head's.
        """
        host: Any = cls
        found = [
            host.load_file_path(
                model_name_or_path,
                filename=name,
                subfolder=subfolder,
                token=token,
                cache_folder=cache_folder,
                revision=revision,
                local_files_only=local_files_only,
            )
            for name in (CONFIG_FILE, WEIGHTS_FILE)
        ]
        folder = Path(found[0]).parent if found[0] else Path(model_name_or_path, subfolder)
        return cls(load_head(folder))


class TokenView(nn.Module):
    """A host's own projection module seen as a map of tensors, (..., in_features) -> (..., out_features)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Project token states."""
        projected: Tensor = self.module({"token_embeddings": x})["token_embeddings"]
        return projected

    def nonlinear_part(self) -> str | None:
        """Name the activation of the host's layer unless it is the identity; heads of ours answer for themselves."""
        if isinstance(self.module, HeadModule):
            return nonlinear_part(self.module.head)
        activation = getattr(self.module, "activation_function", None)
        return None if isinstance(activation, nn.Identity) else f"the activation {type(activation).__name__}"


def as_head(projections: list[nn.Module]) -> nn.Module:
    """Return the head in the projection modules of a model, or view the modules as one."""
    if len(projections) == 1 and isinstance(projections[0], HeadModule):
        return projections[0].head
    return nn.Sequential(*map(TokenView, projections))


class NativeModel:
    """The part of :class:`~projheads.hosts.base.HostModel` that is the same for both hosts, around a host's own model.

    Attributes:
        native: The host's model, a sequence of modules that begins with the transformer; in evaluation mode at first.
        head: The projection as a map of tensors.
        in_features: Width of the token states.
        out_features: Width of a token embedding.
    """

    def __init__(self, native: Any, projections: Sequence[Any], lengths: tuple[int | None, int | None]) -> None:
        check_lengths(native[0].auto_model, *lengths)
        pad_on_the_right(native.tokenizer, native[0].auto_model.config)
        self.native = native
        self.head = as_head(list(projections))
        self.in_features: int = projections[0].in_features
        self.out_features: int = projections[-1].out_features
        native.eval()

    @property
    def device(self) -> torch.device:
        """The device that holds the parameters."""
        device: torch.device = self.native.device
        return device

    def token_states(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Return the backbone's output (B, L, in_features)."""
        shape = tokens["input_ids"].shape
        if not shape[1]:  # empty texts, and a tokenizer without special tokens
            return torch.zeros(*shape, self.in_features, device=self.device)
        features = {name: tensor.to(self.device) for name, tensor in tokens.items()}
        states: Tensor = self.native[0](features)["token_embeddings"]
        return states

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the parameters before the head."""
        parameters: Iterator[nn.Parameter] = self.native[0].parameters()
        return parameters

    def save(self, path: StrPath, *, backbone_from: StrPath | None = None) -> None:
        """Write a folder that the plain host opens; the same weights and settings give the same bytes.

        A head that is a chain of the host's own ``Dense`` is saved as that and opens without projheads; any other head
        needs projheads to be installed.

        Args:
            path: The folder to write.
            backbone_from: An earlier save. If its backbone has the same bytes, its files are shared (hard links) and
                take no disk space.
        """
        # A fast tokenizer would save how the last call padded and truncated.
        backend = getattr(self.native.tokenizer, "backend_tokenizer", None)
        if backend is not None:
            backend.no_truncation()
            backend.no_padding()
        with quiet(), self._as_own_layers() as named:
            self.native.save(str(path), create_model_card=False)
        if named is not None:
            write_head_config(named, Path(path) / projections(Path(path))[0].path / HEAD_FILE)
        if backbone_from is not None:
            _share_backbone(Path(path), Path(backbone_from))

    def own_layers(self, head: Head) -> list[Any]:
        """Write a head as a chain of the host's own layers; see :meth:`~projheads.hosts.base.Host.to_dense_chain`."""
        raise NotImplementedError

    @contextlib.contextmanager
    def _as_own_layers(self) -> Iterator[Head | None]:
        """Put the host's own layers in the place of a head of ours that is a chain of them; yields that head."""
        modules = dict(self.native.named_children())
        ours = [module for module in modules.values() if isinstance(module, HeadModule)]
        chain: list[Any] = []
        if len(ours) == 1:
            with contextlib.suppress(ProjheadsError):
                chain = self.own_layers(ours[0].head)
        saved = {tensor.data_ptr() for layer in chain for tensor in layer.state_dict().values()}
        if not chain or saved != {tensor.data_ptr() for tensor in ours[0].head.state_dict().values()}:
            yield None
            return
        replace_modules(self.native, ours, chain)
        try:
            yield ours[0].head
        finally:
            self.native._modules.clear()
            self.native._modules.update(modules)


@contextlib.contextmanager
def mean_new_rows(transformer: Any) -> Iterator[None]:
    """Set each row that the table of token embeddings gains in the block to the mean of the earlier rows.

    transformers draws it about that mean, a ten-thousandth of a standard deviation away, from a covariance matrix whose
    last bits depend on the number of CPU threads. The same backbone would then have different fingerprints.
    """
    table = _embedding_table(transformer)
    rows = 0 if table is None else min(len(table), len(transformer.tokenizer))
    yield
    table = _embedding_table(transformer)
    if table is not None and len(table) > rows:
        earlier = table.detach()[:rows].cpu().double().numpy()
        with torch.no_grad():
            table[rows:] = torch.from_numpy(earlier.mean(0)).to(table)


def _embedding_table(transformer: Any) -> nn.Parameter | None:
    """Return the table of token embeddings; None if the backbone has none that can be resized."""
    try:
        table: nn.Parameter = transformer.auto_model.get_input_embeddings().weight
    except (NotImplementedError, AttributeError):
        return None
    return table


def restore_head(found: FoundProjection | None, folder: Path) -> None:
    """Put back the head of ours that a model folder holds as a chain of the host's own layers."""
    head = read_named_head(folder)
    if head is not None and found is not None:
        weights = reference_tensor(found.head)
        found.put(head.to(device=weights.device, dtype=weights.dtype).train(found.head.training))


def check_width(head: Head, width: int | None) -> None:
    """Check that a head fits the width of a backbone's token states.

    Raises:
        ProjheadsError: If it does not.
    """
    if head.in_features != width:
        raise ProjheadsError(f"head {head.spec}: has in_features={head.in_features}, the backbone's width is {width}")


def in_sequence(
    model: nn.Sequential,
    projections: Sequence[Any],
    wrap: Callable[[Head], nn.Module],
    stock: Callable[[Head], Sequence[nn.Module]],
) -> FoundProjection | None:
    """Describe the projection modules of a model that is a sequence of modules; None if it has none.

    Args:
        model: The model.
        projections: Its projection modules, in order.
        wrap: Makes the host's module for a head.
        stock: Makes the host's own modules for a head.
    """
    if not projections:
        return None

    def put(head: Head) -> None:
        replace_modules(model, projections, [wrap(head).train(head.training)])

    def put_linear(linear: nn.Linear) -> None:
        head = build_head(HeadSpec("linear", {"bias": linear.bias is not None}), *widths)
        head.linear = linear
        replace_modules(model, projections, [module.train(linear.training) for module in stock(head)])

    widths = projections[0].in_features, projections[-1].out_features
    return FoundProjection(as_head(list(projections)), *widths, put, put_linear)


def replace_modules(model: nn.Sequential, old: Sequence[nn.Module], new: Sequence[nn.Module]) -> None:
    """Replace consecutive modules of a model that is a sequence of modules; the others keep their order."""
    kept: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        if child is old[0]:
            kept |= {f"{name}_{number}" if number else name: module for number, module in enumerate(new)}
        elif all(child is not other for other in old):
            kept[name] = child
    if all(name.isdigit() for name, _ in model.named_children()):  # hosts number their modules and expect no gaps
        kept = {str(number): child for number, child in enumerate(kept.values())}
    model._modules.clear()
    model._modules.update(kept)


def _share_backbone(saved: Path, earlier: Path) -> None:
    """Replace the weight files of a save by hard links to those of an earlier one with the same bytes, if possible."""
    for file in saved.glob("*.safetensors"):
        twin = earlier / file.name
        if not twin.is_file() or twin.samefile(file) or not _same_bytes(file, twin):
            continue
        link = file.with_name(f"{file.name}.link")
        with contextlib.suppress(OSError):
            os.link(twin, link)
            link.replace(file)


def _same_bytes(first: Path, second: Path) -> bool:
    if first.stat().st_size != second.stat().st_size:
        return False
    with first.open("rb") as a, second.open("rb") as b:
        while chunk := a.read(_CHUNK_BYTES):
            if chunk != b.read(_CHUNK_BYTES):
                return False
    return True
