"""On what did the benchmarks run?"""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

LIBRARIES = ("torch", "transformers", "sentence-transformers")


def describe() -> dict[str, str | float]:
    """What figures depend on. `load_1m` is how many processes wanted a core before the first row."""
    return {
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        **_versions(),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _cpu_name() -> str:
    """Linux has the name in a file; elsewhere the architecture must do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
