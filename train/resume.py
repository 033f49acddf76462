"""Resume points: a stopped trial resumes from its last one and ends with the same bits as if never stopped.

The order of the data, dropout and noise are functions of the seed and the step, so a resume point holds no random
state, only the weights, the states of the optimisers and the number of the step.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from experiment.disk.files import SCHEMA_VERSION, read_json, write_folder, write_json
from experiment.disk.os_errors import safetensors_errors
from projheads.errors import ProjheadsError
from projheads.hosts.head_files import to_save

__all__ = ["ResumePoint"]


@dataclass(frozen=True)
class ResumePoint:
    """The last resume point of a trial.

    Attributes:
        folder: The folder of the trial's resume points, ``step-<n>``.
        key: Identifies everything that the trial's result depends on; points with a different key are ignored.
        every: Steps between two resume points.
        keep_end: Whether the state after the last step is kept, from which a later stage begins.
        states: Whether the trial's token states are ``stored``, or computed in ``lockstep``.
    """

    folder: Path
    key: str
    every: int
    keep_end: bool = False
    states: str = "stored"

    def is_due(self, step: int, steps: int) -> bool:
        """Return whether the state after a step is saved."""
        return self.keep_end if step == steps else step % self.every == 0

    def save(
        self,
        step: int,
        trained: nn.Module,
        optimizers: Sequence[Optimizer],
        scaler: GradScaler,
        progress: dict[str, Any],
        average: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        """Write the state after a step, and delete earlier ones.

        Args:
            step: The step's number, from 1.
            trained: The module that holds every trained parameter.
            optimizers: The optimisers.
            scaler: The loss scaler; no effect outside fp16.
            progress: The training log so far, as JSON values.
            average: The average of the weights.

        Raises:
            OSError: If the disk is full or cannot be written; the previous point is kept.
        """
        older = self._points()
        tensors = {f"model.{name}": tensor for name, tensor in _state(trained).items()}
        tensors |= {f"average.{name}": tensor for name, tensor in average.items()}
        for place, optimizer in enumerate(optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{place}.{index}.{name}": value for name, value in values.items()}
        about = {"schema_version": SCHEMA_VERSION, "key": self.key, "step": step, "scaler": scaler.state_dict()}
        about["states"] = self.states
        with safetensors_errors(self.folder), write_folder(self.folder / f"step-{step}") as temporary:
            save_file(to_save(tensors), temporary / "state.safetensors")
            write_json(temporary / "state.json", {**about, "progress": progress})
        for point in older:
            shutil.rmtree(point, ignore_errors=True)

    def _points(self) -> list[Path]:
        """List the resume points, the latest first."""
        return sorted(self.folder.glob("step-*"), key=lambda point: -int(point.name.removeprefix("step-")))

    def load(
        self,
        trained: nn.Module,
        optimizers: Sequence[Optimizer],
        scaler: GradScaler,
        average: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> tuple[int, dict[str, Any] | None]:
        """Restore the state of the last resume point, if this trial has one; ``average`` is set in place.

        Returns:
            The number of its step and the training log so far; 0 and None without a resume point.
        """
        for point in self._points():
            try:
                about, tensors = read_json(point / "state.json"), load_file(point / "state.safetensors")
            except (ProjheadsError, OSError, SafetensorError):
                continue  # damaged: an older point, or the start, leads to the same result
            if isinstance(about, dict) and about.get("key") == self.key:
                break
        else:
            return 0, None
        with torch.no_grad():
            for name, tensor in _state(trained).items():
                if f"model.{name}" in tensors:  # a head may have removed parameters after its last step
                    tensor.copy_(tensors.pop(f"model.{name}"))
            for name, tensor in average.items():
                if f"average.{name}" in tensors:
                    tensor.copy_(tensors.pop(f"average.{name}"))
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
        for name, tensor in tensors.items():
            if not name.startswith("optimizer."):
                continue
            _, place, index, what = name.split(".", 3)
            states[int(place)].setdefault(int(index), {})[what] = tensor
        for optimizer, state in zip(optimizers, states, strict=True):
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        scaler.load_state_dict(about["scaler"])
        return about["step"], about["progress"]


def _state(trained: nn.Module) -> dict[str, Tensor]:
    """Return what training changes, by name: trained parameters, each once, and buffers."""
    parameters = {name: tensor for name, tensor in trained.named_parameters() if tensor.requires_grad}
    persistent = trained.state_dict(keep_vars=True)
    return parameters | {name: tensor for name, tensor in trained.named_buffers() if name in persistent}
