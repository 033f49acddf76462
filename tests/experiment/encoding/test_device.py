import pytest
import torch

from experiment.encoding.device import autocast, describe_device, peak_memory, pick_device, resolve_precision
from projheads.errors import ProjheadsError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("features", "precision"),
    [
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, "bf16"),
        ({"avx512_bf16": True, "cpu_name": "Intel Xeon"}, "fp32"),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, "bf16"),
        ({"avx2": True, "avx512_bf16": False}, "fp32"),
    ],
)
def test_auto_is_bf16_only_where_the_processor_multiplies_it_faster(monkeypatch, features, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert resolve_precision("auto", CPU) == precision
    assert resolve_precision("fp32", CPU) == "fp32"


def test_autocast_multiplies_in_the_precision_that_is_asked_for():
    left = torch.ones(2, 2)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(CPU, precision):
            assert (left @ left).dtype == dtype


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == CPU
    with pytest.raises(ProjheadsError, match=r'no "cuda:1"; use device=cpu'):
        pick_device("cuda:1")


def test_memory_and_name_of_the_device():
    before = peak_memory(CPU)
    block = torch.ones(2**26)
    assert peak_memory(CPU) >= before
    assert peak_memory(CPU) >= block.numel() * 4
    assert describe_device(CPU) == f"cpu ({torch.get_num_threads()} threads)"
