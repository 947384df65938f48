"""A slow call holds up neither the event loop nor the end of the process, and the end is no crash."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import asyncio, threading
import torch
from embedmq_worker.offload import in_thread, leave

begun = threading.Event()

def slow():
    torch.set_num_threads(1)
    numbers = torch.ones(500, 500)
    while True:
        numbers = torch.nn.functional.gelu(numbers @ numbers)
        begun.set()

async def main():
    call = asyncio.create_task(in_thread(slow, "slow"))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    call.cancel()

asyncio.run(main())
print("the last words")
leave()
"""


def test_a_process_that_ends_while_torch_works_in_a_thread_ends_well() -> None:
    """As when a worker is told to stop while it loads a model: left to Python, that aborts the process."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "the last words\n")
