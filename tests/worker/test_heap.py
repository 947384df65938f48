"""Large buffers go back to the system, unless a model computes on the CPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from embedmq_worker import heap
getattr(heap, sys.argv[1])()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    bytearray(8_000_000)
before = faults()
for _ in range(20):
    buffer = bytearray(b"x") * 8_000_000
    del buffer
print(faults() - before)
"""
PAGES = 8_000_000 // 4096


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is meant")
@pytest.mark.parametrize(("call", "anew"), [("return_large_buffers", True), ("keep_large_buffers", False)])
def test_pages_of_a_large_buffer_are_made_anew_only_where_they_were_given_back(call: str, anew: bool) -> None:
    """A quarter of a forward pass on a CPU was spent on that."""
    command = [sys.executable, "-c", SCRIPT, call]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (int(done.stdout) > 10 * PAGES) is anew
