"""A store's folder: what is read back is what was written, or an error."""

import os
import shutil
import threading

import numpy as np
import pytest

from experiment.encoding.store import Filled, StoreFolder, remove_store
from projheads.errors import ProjheadsError

ROWS = np.arange(24, dtype=np.float16).reshape(8, 3)
LENGTHS = np.array([2, 0, 3, 1, 2])


def fill(store, first=0, last=5, between=lambda text: None):
    """Write texts one by one, each as a separate commit."""
    with store.filling() as (vectors, lengths):
        for text in range(first, last):
            start, end = LENGTHS[:text].sum(), LENGTHS[: text + 1].sum()
            vectors.seek(int(start) * 6)
            vectors.write(ROWS[start:end].tobytes())
            lengths.write(LENGTHS[text : text + 1].astype("<i8").tobytes())
            between(text)
            store.commit(Filled(text + 1, int(end)), vectors, lengths)


@pytest.fixture
def store(tmp_path):
    return StoreFolder(tmp_path / "key" / "store", "key", 3, "float16")


def test_a_store_filled_in_two_goes_is_the_one_filled_in_one(store):
    with store.claimed():
        fill(store, 0, 3)
    assert store.filled().texts == 3
    with store.claimed():
        fill(store, 3)
        opened = store.open(5)
    np.testing.assert_array_equal(opened.vectors, ROWS)
    np.testing.assert_array_equal(opened.lengths, LENGTHS)


@pytest.mark.parametrize("file, place", [("vectors.bin", 0), ("vectors.bin", 47), ("lengths.bin", 0)])
def test_a_flipped_byte_is_one_line_with_the_file_and_the_remedy(store, file, place):
    with store.claimed():
        fill(store)
    data = bytearray((store.path / file).read_bytes())
    data[place] ^= 1
    (store.path / file).write_bytes(data)
    with pytest.raises(ProjheadsError, match=rf"{file}: damaged .*delete .*store and run the same command again"):
        store.open(5)


@pytest.mark.parametrize("texts", [4, 6])
def test_a_store_with_more_or_fewer_texts_than_expected_is_refused(store, texts):
    with store.claimed():
        fill(store)
    with pytest.raises(ProjheadsError, match="deleted or changed while in use"):
        store.open(texts)


@pytest.mark.parametrize("other", [{"key": "other"}, {"width": 1}, {"dtype": "float32"}])
def test_a_store_of_something_else_counts_as_absent(store, other):
    with store.claimed():
        fill(store)
    changed = StoreFolder(**{"path": store.path, "key": "key", "width": 3, "dtype": "float16"} | other)
    assert changed.filled() == Filled()


@pytest.mark.parametrize("text", range(5))
def test_a_folder_deleted_while_it_is_filled_is_one_line_and_the_next_try_succeeds(store, text):
    def delete(reached):
        if reached == text:
            shutil.rmtree(store.path.parent)

    with pytest.raises(ProjheadsError, match="deleted or changed while in use; run the same"), store.claimed():
        fill(store, between=delete)
    with store.claimed():
        fill(store)
        np.testing.assert_array_equal(store.open(5).vectors, ROWS)


def test_a_store_is_removed_only_when_nobody_fills_it_and_stays_readable(store):
    remover = threading.Thread(target=remove_store, args=[store.path])
    with store.claimed():
        fill(store, 0, 2)
        remover.start()
        fill(store, 2)
        opened = store.open(5)
    remover.join()
    np.testing.assert_array_equal(opened.vectors, ROWS)
    assert not store.path.parent.exists()


def test_who_waited_for_a_store_that_was_removed_makes_it_again(store):
    def make():
        with store.claimed():
            fill(store)

    other = threading.Thread(target=make)
    with store.claimed():
        other.start()
        store.path.rename(store.path.with_name("removed"))
    other.join()
    with store.claimed():
        np.testing.assert_array_equal(store.open(5).vectors, ROWS)


def test_a_store_that_another_process_makes_while_an_older_one_is_removed_stays(store, monkeypatch):
    """Once the lock's file is gone, nothing holds others back: nothing may be deleted after it."""
    with store.claimed():
        fill(store)
    for number in range(20):
        (store.path / f"{number}").touch()
    unlink, filled = os.unlink, []

    def make_again(path, **named):
        unlink(path, **named)
        if str(path).endswith(".lock") and not filled:
            filled.append(path)
            with store.claimed():
                fill(store)

    monkeypatch.setattr(os, "unlink", make_again)
    remove_store(store.path)
    assert filled
    np.testing.assert_array_equal(store.open(5).vectors, ROWS)


def test_a_store_that_is_being_filled_is_left_if_nobody_waits(store):
    with store.claimed():
        fill(store)
        remove_store(store.path, wait=False)
        assert store.filled().texts == 5
    remove_store(store.path, wait=False)
    assert not store.path.parent.exists()
