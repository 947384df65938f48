"""Do torch, NVIDIA's driver and the devices fit each other, and is there memory enough? Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from embedmq_schemas.check import MISCONFIGURED, Check, Look
from embedmq_schemas.limits import MIB

from embedmq_worker.engine.fitting import Facts, Gpu

TORCH: Final = Look(
    name="torch",
    at="torch's build, NVIDIA's driver, the compute capability of each GPU",
    bad_is="a build without CUDA on a machine with a driver; a driver that is older than torch's CUDA; a driver "
    "without its library, as in a container that was given no GPU; a GPU for which torch has no kernels; no torch",
    remedy="see that driver, torch and GPU fit each other: pytorch.org/get-started/locally",
)
DEVICE: Final = Look(
    name="device",
    at="`worker.device`",
    bad_is="one that torch does not see",
    remedy="choose one that is here, or auto; where a GPU should be, look at `torch` above",
    exit_code=MISCONFIGURED,
)
MEMORY: Final = Look(
    name="memory",
    at="the weights of the pinned models together, and of each other one beside them, against "
    "`worker.memory_budget_bytes`, or for `auto` what a device has free now",
    bad_is="more than there is",
    remedy="pin fewer models, compute in bfloat16, or raise worker.memory_budget_bytes",
    exit_code=MISCONFIGURED,
)

_ARCH: Final = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")
"""A kernel for devices of one major version, from a minor one on; or code that the driver compiles for later ones."""


def fit(facts: Facts | None, wanted: str) -> Check:
    """Whether torch can use what this machine has; `wanted` is the configured device."""
    if facts is None:
        return TORCH.bad("not installed", "pip install 'embedmq[worker]'")
    if wanted.startswith("mps") and not facts.mps[0]:
        return TORCH.bad(f"torch {facts.torch} was built without MPS", "install Apple's build of torch (arm64)")
    if wanted == "cpu" or facts.hip or (facts.apple and not wanted.startswith("cuda")):
        return TORCH.good(f"torch {facts.torch}")
    return _nvidia(facts, wanted.startswith("cuda"))


def runs_on(archs: Sequence[str], capability: tuple[int, int]) -> bool:
    """Whether kernels that were compiled for `archs` run on a device: those for the same major version and a minor one
    that is not newer, or code for any older one that the driver compiles. What ends in `a` runs on its own device only:
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#binary-compatibility
    """
    for arch in archs:
        if (found := _ARCH.fullmatch(arch)) is None:
            continue
        kind, only = found[1], found[4]
        version = int(found[2]), int(found[3])
        if version == capability:
            return True
        same = version[0] == capability[0]
        if not only and version <= capability and (kind == "compute" or same):
            return True
        if only == "f" and same and version <= capability:
            return True
    return False


def device(wanted: str, present: Mapping[str, int]) -> Check:
    """Whether the configured device is there. `present`: how many devices of each kind, those first that `auto`
    prefers.
    """
    kind, _, index = wanted.partition(":")
    if wanted == "auto":
        return DEVICE.good(f"auto takes {next(kind for kind, count in present.items() if count)}")
    if (index or "0").isdecimal() and int(index or 0) < present.get(kind, 0):
        return DEVICE.good(f"{wanted} is here")
    offered = ", ".join(f"{count} {kind}" for kind, count in present.items() if count)
    return DEVICE.bad(f"worker.device = {wanted!r} is not here; torch sees {offered}")


def memory(sizes: Mapping[str, int], pinned: Collection[str], budget: int, gpu: Gpu | None = None) -> Check:
    """Whether the pinned models fit into the budget together, and each other one beside them.

    `sizes`: bytes of each model's weights; what a batch takes beside them is known only when a model is loaded. `gpu`:
    the device whose free memory `auto` took the budget from.
    """
    held = sum(sizes[name] for name in pinned)
    room = f"{held / MIB:,.0f} of {budget / MIB:,.0f} MiB hold the weights of {len(pinned)} pinned model(s)"
    if gpu is not None:
        room += f"; {gpu.free_bytes / MIB:,.0f} of the device's {gpu.total_bytes / MIB:,.0f} MiB are free"
    late = sorted(name for name, size in sizes.items() if name not in pinned and held + size > budget)
    if held <= budget and not late:
        return MEMORY.good(room)
    found = f"{room}; too little is left for {', '.join(late)}" if held <= budget else f"{room}, which is too little"
    largest = held + max((sizes[name] for name in late), default=0)
    if gpu is not None and largest <= budget * gpu.total_bytes / max(1, gpu.free_bytes):
        return MEMORY.bad(found, "end what else holds memory of this device (nvidia-smi lists it)")
    return MEMORY.bad(found)


def _nvidia(facts: Facts, needed: bool) -> Check:
    """`needed`: whether a GPU was asked for, rather than taken where there is one."""
    built = "without CUDA" if facts.cuda is None else f"for CUDA {_dotted(facts.cuda)}"
    told = f"torch {facts.torch} {built}"
    driver = f"driver {facts.driver}" if facts.driver else "a driver"
    if not facts.driver and facts.driver_cuda is None:
        found = f"{told}, and no NVIDIA driver"
        return TORCH.bad(found, "install NVIDIA's driver, or set worker.device") if needed else TORCH.good(found)
    if facts.cuda is None:
        remedy = "install torch built with CUDA: pytorch.org/get-started/locally has the command"
        return TORCH.bad(f"{told}, but this machine has NVIDIA's {driver}", remedy)
    if facts.driver_cuda is None:
        remedy = "give the container the GPU (docker run --gpus all, nvidia.com/gpu in Kubernetes)"
        return TORCH.bad(f"{told}; NVIDIA's {driver} is loaded, but its library libcuda is not found", remedy)
    if facts.driver_cuda[0] < facts.cuda[0]:
        found = f"{told}, but NVIDIA's {driver} knows CUDA up to {_dotted(facts.driver_cuda)}"
        return TORCH.bad(found, f"install a newer driver, or torch for CUDA {facts.driver_cuda[0]}")
    if not facts.gpus:
        said = f": {facts.said}" if facts.said else ""
        remedy = "look at CUDA_VISIBLE_DEVICES, at who may read /dev/nvidia*, and at nvidia-smi"
        return TORCH.bad(f"{told} and NVIDIA's {driver}, but no GPU can be used{said}", remedy)
    for gpu in facts.gpus:
        if not runs_on(facts.archs, gpu.capability):
            found = f"{told} has kernels for {', '.join(facts.archs)}, none of them for {gpu.name} ({_sm(gpu)})"
            return TORCH.bad(found, f"install a build of torch for {_sm(gpu)}")
    return TORCH.good(f"{told}, driver for {_dotted(facts.driver_cuda)}, {', '.join(gpu.name for gpu in facts.gpus)}")


def _sm(gpu: Gpu) -> str:
    return f"sm_{gpu.capability[0]}{gpu.capability[1]}"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
