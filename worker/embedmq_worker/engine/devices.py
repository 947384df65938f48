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
