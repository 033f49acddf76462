"""The device that a command computes on, its precision and its peak memory."""

import contextlib
import resource
import sys
from contextlib import AbstractContextManager

import torch

from projheads.errors import ProjheadsError

__all__ = ["autocast", "describe_device", "peak_memory", "pick_device", "reset_peak_memory", "resolve_precision"]

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str) -> torch.device:
    """Return the device with a given name; ``auto`` is CUDA if available, else MPS, else the CPU.

    Raises:
        ProjheadsError: If the machine does not have the device.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ProjheadsError(f'device: "{name[:40]}" is not a device; use auto, cpu, cuda, cuda:<n> or mps') from None
    present = {"cpu": True, "cuda": cuda and (device.index or 0) < torch.cuda.device_count(), "mps": mps}
    if not present.get(device.type):
        raise ProjheadsError(f'device: this machine has no "{name}"; use device=cpu or device=auto')
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """Resolve the precision ``auto`` for a device; other names are returned unchanged.

    ``auto`` is bf16 where the hardware multiplies it faster than fp32, else fp32. A CPU without instructions for bf16
    is tens of times slower in bf16; an Intel CPU with those of AVX-512 alone, as where a virtual machine hides AMX,
    takes 1.8 times as long (``results/precision-cpu.json``).
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        faster = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        features = torch.cpu.get_capabilities()
        by_avx512 = features.get("avx512_bf16") and "Intel" not in features.get("cpu_name", "")
        faster = bool(features.get("amx_bf16") or by_avx512)
    else:
        faster = False
    return "bf16" if faster else "fp32"


def describe_device(device: torch.device) -> str:
    """Name the device for a result file, for instance ``cpu (2 threads)``."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which matrix products run in ``precision``: ``fp32``, ``bf16`` or ``fp16``."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak, on devices that support it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Return the peak in bytes: of tensors on a CUDA device, elsewhere of the process since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
