"""Points in the middle of a trial from which it goes on, to the same bits as if it had never been stopped.

The order of the data, dropout and noise are functions of the seed and the step, so no random state needs to be kept:
the weights, what the optimisers remember and the number of the step are all.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from experiment.disk.files import SCHEMA_VERSION, read_json, write_folder, write_json
from experiment.disk.models import disk_errors
from projheads.errors import ProjheadsError

__all__ = ["Checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """Where a trial keeps its last point, and what the trial is.

    Attributes:
        folder: The folder of its points, each in a folder of its own.
        key: Names everything that the trial's result depends on; a point of another key is passed over.
        every: Steps between two points.
    """

    folder: Path
    key: str
    every: int

    def save(
        self,
        step: int,
        trained: nn.Module,
        optimizers: Sequence[Optimizer],
        scaler: GradScaler,
        progress: dict[str, Any],
    ) -> None:
        """Write the state behind a step.

        Args:
            step: The step's number, from 1.
            trained: The module that holds every trained parameter.
            optimizers: The optimisers.
            scaler: The scaler of the loss; without effect outside fp16.
            progress: What was measured so far, in the form of JSON.

        Raises:
            OSError: If the disk is full or cannot be written; the last point stays.
        """
        older = self._points()
        tensors = {f"model.{name}": tensor for name, tensor in _state(trained).items()}
        for place, optimizer in enumerate(optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{place}.{index}.{name}": value for name, value in values.items()}
        about = {"schema_version": SCHEMA_VERSION, "key": self.key, "step": step, "scaler": scaler.state_dict()}
        with disk_errors(self.folder), write_folder(self.folder / f"step-{step}") as temporary:
            kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            save_file(kept, temporary / "state.safetensors")
            write_json(temporary / "state.json", {**about, "progress": progress})
        for point in older:
            shutil.rmtree(point, ignore_errors=True)

    def remove(self) -> None:
        """Delete every point, once the trial is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _points(self) -> list[Path]:
        """List the folders of points, the latest first."""
        return sorted(self.folder.glob("step-*"), key=lambda point: -int(point.name.removeprefix("step-")))

    def load(
        self, trained: nn.Module, optimizers: Sequence[Optimizer], scaler: GradScaler
    ) -> tuple[int, dict[str, Any] | None]:
        """Bring everything back to the last point, where there is one of this trial.

        Returns:
            The number of the step it was written behind, and what was measured so far; 0 and None without a point.
        """
        for point in self._points():
            try:
                about, tensors = read_json(point / "state.json"), load_file(point / "state.safetensors")
            except (ProjheadsError, OSError, SafetensorError):
                continue  # a point that was damaged: an older one, or the beginning, leads to the same end
            if about["key"] == self.key:
                break
        else:
            return 0, None
        with torch.no_grad():
            for name, tensor in _state(trained).items():
                tensor.copy_(tensors.pop(f"model.{name}"))
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
        for name, tensor in tensors.items():
            _, place, index, what = name.split(".", 3)
            states[int(place)].setdefault(int(index), {})[what] = tensor
        for optimizer, state in zip(optimizers, states, strict=True):
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        scaler.load_state_dict(about["scaler"])
        return about["step"], about["progress"]


def _state(trained: nn.Module) -> dict[str, Tensor]:
    """Name what training changes: trained parameters, each once, and buffers."""
    parameters = {name: tensor for name, tensor in trained.named_parameters() if tensor.requires_grad}
    persistent = trained.state_dict(keep_vars=True)
    return parameters | {name: tensor for name, tensor in trained.named_buffers() if name in persistent}
