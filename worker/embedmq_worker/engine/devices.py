"""Which devices does torch see on this machine?"""

from __future__ import annotations


def present() -> dict[str, int]:
    """How many there are of each kind, those that `auto` prefers first; empty where torch is not installed."""
    try:
        import torch  # takes seconds: only who asks waits for it
    except ImportError:
        return {}
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {"cuda": cuda, "cpu": 1, "mps": int(torch.backends.mps.is_available())}


def free_bytes(device: str) -> int | None:
    """How much memory of a device is free; None where it has none of its own, as a CPU."""
    if device == "cpu":
        return None
    import torch

    if not torch.cuda.is_available() or (device != "auto" and not device.startswith("cuda")):
        return None
    return torch.cuda.mem_get_info(None if device == "auto" else device)[0]
