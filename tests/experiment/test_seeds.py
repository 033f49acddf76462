import hashlib

import torch

from experiment.seeds import numpy_generator, seed_for, torch_generator


def test_a_stream_is_the_hash_of_its_name():
    digest = hashlib.sha256(b"3/dropout/7").digest()
    assert seed_for(3, "dropout", 7) == int.from_bytes(digest[:8], "big") // 2


def test_streams_are_separate_and_repeatable():
    names = [
        (0, "initialisation"),
        (0, "data order", 0),
        (0, "data order", 1),
        (1, "initialisation"),
        (0, "dropout", 1),
    ]
    firsts = [torch.rand(1, generator=torch_generator(*name)).item() for name in names]
    assert len(set(firsts)) == len(names)
    assert firsts == [torch.rand(1, generator=torch_generator(*name)).item() for name in names]
    assert numpy_generator(0, "x").integers(1 << 40) == numpy_generator(0, "x").integers(1 << 40)
