"""How many bytes of models may this worker hold?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from embedmq_worker.engine.devices import free_bytes

DEVICE_SHARE: Final = 0.8
"""Of a device's free memory; what is left is for the allocator's own losses and for others."""
MACHINE_SHARE: Final = 0.5
"""Of the machine's memory, where the device has none of its own; the rest is for requests, and for everybody else."""


def budget_bytes(setting: int | str, device: str, workers: int) -> int:
    """The configured number, or what `auto` means on this machine for each of so many workers.

    `auto` imports torch where the device might have memory of its own: call it in a thread, and with `cpu` when none
    of the models needs a device.
    """
    if isinstance(setting, int):
        return setting
    free = free_bytes(device)
    return int((machine_bytes() * MACHINE_SHARE if free is None else free * DEVICE_SHARE) / workers)


def machine_bytes(root: Path = Path("/")) -> int:
    """The machine's memory, or what its container may use of it, whichever is less. `root` has `proc` and `sys`."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_limits(root)])


def _limits(root: Path) -> Iterator[int]:
    """Limits of this process's control groups and of all groups around them, in bytes."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, inner = line.split(":", 2)
        if not controllers:
            yield from _limits_within(root / "sys/fs/cgroup", inner, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits_within(root / "sys/fs/cgroup/memory", inner, "memory.limit_in_bytes")


def _limits_within(mount: Path, inner: str, file: str) -> Iterator[int]:
    """Inside a container the own group is often mounted as the root, and the path leads nowhere: so the root counts."""
    group = Path(inner.lstrip("/"))
    for folder in [group, *group.parents]:
        try:
            text = (mount / folder / file).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():  # else `max`
            yield int(text)
