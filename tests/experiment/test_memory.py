import ctypes
import subprocess
import sys

import pytest

from experiment.memory import LARGE

IN_MAPS_OF_ITS_OWN = f"""
import ctypes

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "mapped", *"abcde")]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
bytearray(7 * {LARGE})  # now glibc keeps blocks of this size when they are freed
kept = bytearray(2 * {LARGE})
print(libc.mallinfo2().mapped >= 2 * {LARGE})
"""


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc")
@pytest.mark.parametrize("how, expected", [("", "False"), ("block.__enter__()", "True"), ("with block: pass", "False")])
def test_large_blocks_are_not_kept_for_later_ones(how, expected):
    made = "from experiment.memory import returning_large_blocks\nblock = returning_large_blocks()"
    code = f"{made}\n{how}\n{IN_MAPS_OF_ITS_OWN}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
