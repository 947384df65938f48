"""What is there of torch, of NVIDIA's driver and of devices, for `embedmq doctor` to judge whether they fit?"""

from __future__ import annotations

import ctypes
import re
import sys
import warnings
from pathlib import Path
from typing import Final

from msgspec import Struct

DRIVER: Final = Path("/proc/driver/nvidia/version")
"""There wherever NVIDIA's kernel module is loaded, also inside of containers that may not use it."""
LIBRARIES: Final = ("libcuda.so.1", "nvcuda.dll")


class Gpu(Struct, frozen=True):
    """One device of CUDA; bytes are what is free now, and all there are."""

    name: str
    capability: tuple[int, int]
    free_bytes: int
    total_bytes: int


class Facts(Struct, frozen=True, kw_only=True):
    """All that the judgement needs."""

    torch: str
    """Its version."""
    cuda: tuple[int, int] | None = None
    """Which CUDA it was built for; None for a build without."""
    hip: bool = False
    """Whether it was built for AMD's devices, which it calls `cuda` too."""
    archs: tuple[str, ...] = ()
    """What its kernels were compiled for: `sm_90`, `compute_90`, …"""
    driver: str = ""
    """The version of NVIDIA's kernel module; empty where none is loaded."""
    driver_cuda: tuple[int, int] | None = None
    """The newest CUDA that NVIDIA's library speaks; None where it is not found."""
    gpus: tuple[Gpu, ...] = ()
    """Those that torch can use."""
    said: str = ""
    """What torch says where it cannot use any."""
    mps: tuple[bool, bool] = (False, False)
    """Whether it was built for Apple's devices, and whether one is there."""
    apple: bool = False
    """Whether this is an Apple machine."""


def gather() -> Facts | None:
    """Look at this machine; None where torch is not installed. Takes the seconds that torch takes to import."""
    try:
        import torch
    except ImportError:
        return None
    gpus, said = _gpus()
    return Facts(
        torch=torch.__version__,
        cuda=_version(torch.version.cuda or ""),
        hip=bool(torch.version.hip),
        archs=tuple(torch.cuda.get_arch_list()) if gpus else (),
        driver=read_driver(DRIVER),
        driver_cuda=_driver_cuda(),
        gpus=gpus,
        said=said,
        mps=(torch.backends.mps.is_built(), torch.backends.mps.is_available()),
        apple=sys.platform == "darwin",
    )


def read_driver(file: Path) -> str:
    """The version of the kernel module, by what it says of itself in `file`; empty where it is not there."""
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return ""
    found = re.search(r"\b(\d{3,}\.\d+(\.\d+)?)\b", text)
    return found[1] if found else "unknown"


def _gpus() -> tuple[tuple[Gpu, ...], str]:
    """The devices of CUDA, or why there are none."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say is told as a finding
            torch.cuda.init()  # type: ignore[no-untyped-call]  # torch types some
            numbers = range(torch.cuda.device_count())
            return tuple(_gpu(number) for number in numbers), ""
    except (RuntimeError, AssertionError) as error:
        return (), str(error).strip().partition("\n")[0]


def _gpu(number: int) -> Gpu:
    import torch

    free, total = torch.cuda.mem_get_info(number)
    return Gpu(torch.cuda.get_device_name(number), torch.cuda.get_device_capability(number), free, total)


def _driver_cuda() -> tuple[int, int] | None:
    """As NVIDIA's library says, which needs no device for that: 1000 * major + 10 * minor."""
    for name in LIBRARIES:
        try:
            library, found = ctypes.CDLL(name), ctypes.c_int(0)
            if library.cuDriverGetVersion(ctypes.byref(found)) == 0:
                return found.value // 1000, found.value % 1000 // 10
        except (OSError, AttributeError):
            continue
    return None


def _version(text: str) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None
