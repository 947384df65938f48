"""What does a GPU itself say of the engine? Its matrix peak, its memory, what waits for it, and a timeline."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from embedmq_worker.engine.seam import Engine, Slice

MIB = 2**20
SIDE, PRODUCTS = 8192, 20
SMALL_SIDE = 256
"""Of a matrix product that is no measurement, on a CPU."""


def wait(device: str) -> None:
    """Until all that was given to the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_flop_per_s(device: str, dtype: torch.dtype) -> float:
    """What one large square matrix product reaches, on random numbers: zeros are faster."""
    side = SIDE if device == "cuda" else SMALL_SIDE
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    for _ in range(PRODUCTS // 4):
        torch.mm(a, b)
    wait(device)
    start_s = time.perf_counter()
    for _ in range(PRODUCTS):
        torch.mm(a, b)
    wait(device)
    return PRODUCTS * 2 * side**3 / (time.perf_counter() - start_s)


def peak_mib(device: str, run: Callable[[], object]) -> float:
    """Most memory in tensors while it runs, the weights included; not a number where nobody counts, as on a CPU."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    run()
    wait(device)
    return torch.cuda.max_memory_allocated() / MIB if device == "cuda" else math.nan


def waits(device: str, engine: Engine, batches: Sequence[Sequence[Slice]]) -> list[str]:
    """For each launch that made the host wait for the device, torch's own words for it; never any on a CPU.

    torch's debug mode holds for the whole process, so nothing else may run beside: batches are launched here one at a
    time, and collected, which may wait, with the mode off. It sees copies to and from pageable memory, `item`,
    `nonzero` and waits for streams, but neither waits for events nor `cudaMalloc`: look at the timeline, too.
    """
    found: list[str] = []
    for batch in batches:
        engine.launch(batch).collect()  # the first one may allocate
        try:
            with _refusing_waits(device):
                running = engine.launch(batch)
        except RuntimeError as error:
            if "synchroniz" not in str(error):
                raise
            found.append(str(error).splitlines()[0])
        else:
            running.collect()
    return found


def timeline(device: str, run: Callable[[], object], file: Path) -> None:
    """Record what host and device do, for chrome://tracing or Perfetto."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as recorded:
        run()
        wait(device)
    recorded.export_chrome_trace(str(file))


def release(device: str) -> None:
    """Give back what was let go of."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


@contextlib.contextmanager
def _refusing_waits(device: str) -> Iterator[None]:
    if device != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
