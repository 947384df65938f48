"""Which devices does torch see on this machine?"""

from __future__ import annotations

import sys
from collections.abc import Mapping


def present() -> dict[str, int]:
    """How many there are of each kind, those that `auto` prefers first; empty where torch is not installed."""
    try:
        import torch  # takes seconds: only who asks waits for it
    except ImportError:
        return {}
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {"cuda": cuda, "cpu": 1, "mps": int(torch.backends.mps.is_available())}


def preferred(present: Mapping[str, int]) -> str:
    """What `auto` takes of the devices that there are. Pure."""
    return next(kind for kind, count in present.items() if count)


def resolve(wanted: str) -> str:
    """The device that is meant."""
    return wanted if wanted != "auto" else preferred(present())


def free_bytes(wanted: str) -> int | None:
    """How much memory of a device is free; None where it has none of its own, as a CPU."""
    device = resolve(wanted)
    if not device.startswith("cuda"):
        return None
    import torch

    if not torch.cuda.is_available():  # one is configured that is not here: loading will say so
        return None
    return torch.cuda.mem_get_info(device)[0]


def used_and_total_bytes(wanted: str) -> tuple[int, int] | None:
    """Memory of the device that is in use, by whomever; None where it has none of its own, or none was used yet.

    It never imports torch, nor waits for a thread that does: whoever reads metrics would wait, too.
    """
    cuda = sys.modules.get("torch.cuda")
    begun = getattr(cuda, "is_initialized", None)
    if wanted == "cpu" or cuda is None or begun is None or not begun():
        return None
    try:
        free, total = cuda.mem_get_info(wanted if wanted.startswith("cuda") else "cuda")
    except RuntimeError:  # it is broken, which the next batch on it finds and tells
        return None
    return total - free, total
