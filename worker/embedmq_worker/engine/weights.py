"""How many bytes does a checkpoint take in memory, and are all of its weights there?

Only headers are read. Format: 8 bytes length (little-endian), so many bytes of JSON, then the tensors
("Format" in the documentation of safetensors).
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from embedmq_worker.engine import modules
from embedmq_worker.engine.modules import Module
from embedmq_worker.errors import CheckpointBroken, CheckpointMissing

MAX_HEADER_BYTES = 100_000_000
"""The format's own bound."""

FLOAT_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}
"""What is cast to the dtype that a model computes in."""

BITS = FLOAT_BITS | {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64, "C64": 64,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip

COMPUTED_BYTES = {"auto": 4, "float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of one weight; `auto` may choose the widest."""

Natural = Annotated[int, Meta(ge=0)]


class Tensor(Struct, frozen=True, gc=False):
    """One entry of a header."""

    dtype: str
    shape: list[Natural]
    data_offsets: tuple[Natural, Natural]


class _Index(Struct, frozen=True):
    weight_map: dict[str, str]


def size_bytes(folder: Path, dtype: str) -> int:
    """Bytes in memory when loaded to compute in `dtype` (a key of `COMPUTED_BYTES`), without activations.

    Raises:
        CheckpointMissing: a shard that the index names is not there.
        CheckpointBroken: a header that does not describe its file.
    """
    width = COMPUTED_BYTES[dtype]
    return sum(
        count * width if tensor.dtype in FLOAT_BITS else (count * BITS[tensor.dtype] + 7) // 8
        for file in files(folder)
        for tensor in header(file).values()
        for count in (math.prod(tensor.shape),)
    )


def files(folder: Path) -> list[Path]:
    """The safetensors that loading would read, those of modules in subfolders included.

    Raises:
        CheckpointMissing: a shard that the index names is not there.
        CheckpointBroken: an index that cannot be read.
    """
    found = {file: None for module in modules.read(folder) for file in _files(module)}
    return list(found)


def header(file: Path) -> dict[str, Tensor]:
    """The tensors in a file, by name.

    Raises:
        CheckpointBroken: the header is cut, too long, no JSON, or describes other bytes than there are.
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        # before anything is read: a wrong length must not cost memory
        if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
            raise CheckpointBroken(f"{file}: a header of {length} bytes in {size}: cut off, or no safetensors")
        raw = opened.read(length)
    try:
        entries = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        entries.pop("__metadata__", None)
        tensors = {name: msgspec.json.decode(entry, type=Tensor) for name, entry in entries.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointBroken(f"{file}: its header is no list of tensors: {error}") from error
    _check(file, tensors, size - 8 - length)
    return tensors


def _check(file: Path, tensors: dict[str, Tensor], data_bytes: int) -> None:
    """Tensors must follow each other without gaps and fill the file."""
    at = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, end = tensor.data_offsets
        if tensor.dtype not in BITS:
            raise CheckpointBroken(f"{file}: {name} has the unknown dtype {tensor.dtype!r}")
        if begin != at or (end - begin) * 8 != math.prod(tensor.shape) * BITS[tensor.dtype]:
            raise CheckpointBroken(f"{file}: the bytes of {name} are not those of its shape {tensor.shape}")
        at = end
    if at != data_bytes:
        raise CheckpointBroken(f"{file}: {data_bytes} bytes of weights where the header tells of {at}: cut off?")


def _files(module: Module) -> list[Path]:
    """As transformers chooses: the whole file before the shards; where it is told another name, all there are."""
    whole, index = module.folder / "model.safetensors", module.folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if not (module.transformer and index.is_file()):
        return sorted(module.folder.glob("*.safetensors"))
    try:
        names = sorted(set(msgspec.json.decode(index.read_bytes(), type=_Index).weight_map.values()))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointBroken(f"{index}: no index of weights: {error}") from error
    for name in names:
        if os.path.basename(name) != name or not name.endswith(".safetensors"):
            raise CheckpointBroken(f"{index}: {name!r} is no safetensors beside it")
        if not (module.folder / name).is_file():
            raise CheckpointMissing(f"{index}: the shard {name} is not there; fetch the checkpoint anew")
    return [module.folder / name for name in names]
