"""Work over threads: order, errors, and torch's own threads left as they were."""

import threading

import pytest
import torch

from experiment.encoding.threads import over_threads


def test_results_stand_in_the_order_of_the_items_and_torch_keeps_its_threads(threads):
    assert over_threads(lambda item: item * item, range(50)) == [item * item for item in range(50)]
    assert torch.get_num_threads() == threads


def test_each_item_is_computed_by_one_thread(threads):
    assert set(over_threads(lambda item: torch.get_num_threads(), range(20))) == {1}


def test_an_error_ends_the_work_and_leaves_the_rest_out(threads):
    begun, go = [], threading.Event()

    def fail(item):
        begun.append(item)
        if item == 0:
            go.set()
            raise KeyboardInterrupt
        go.wait()

    with pytest.raises(KeyboardInterrupt):
        over_threads(fail, range(10_000))
    assert len(begun) < 10_000
    assert torch.get_num_threads() == threads
