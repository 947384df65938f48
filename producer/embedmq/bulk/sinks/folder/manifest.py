"""What does a folder of parts hold, and how far did each job come?

The manifest is the one file that decides: it is replaced as a whole, so a folder is always as of one commit. Parts that
it names and that still have their hidden names were caught between two steps of that commit (`settle`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from embedmq.bulk.errors import SinkRefused
from embedmq.bulk.rows import Shape
from embedmq.bulk.sinks.folder.disk import replace_file

Kind = Literal["parquet", "jsonl", "npy"]
FileName = Annotated[str, Meta(pattern=r"\Apart-\d{5,}(\.[a-z]+)+\Z")]

MANIFEST = "_embedmq.json"
FORMAT_VERSION = 1


class Part(Struct, frozen=True):
    """One part: `files` maps names to bytes; `generation` counts what was ever written into the folder."""

    number: int
    generation: int
    rows: int
    files: Mapping[FileName, int]

    @property
    def size_bytes(self) -> int:
        return sum(self.files.values())


class Manifest(Struct, frozen=True, kw_only=True):
    """The folder as of its last commit. `retired` names files that this commit replaced by others."""

    format_version: int = FORMAT_VERSION
    kind: Kind
    shape: Shape
    generation: int = 0
    parts: tuple[Part, ...] = ()
    retired: tuple[FileName, ...] = ()
    checkpoints: Mapping[str, bytes] = {}

    def files(self) -> dict[str, int]:
        """Name and bytes of every file that the folder has to hold."""
        return {name: size for part in self.parts for name, size in part.files.items()}


class _Version(Struct):
    format_version: int


def read_manifest(folder: Path) -> Manifest | None:
    """None where there is none. Raises SinkRefused where it cannot be understood, OSError."""
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        version = msgspec.json.decode(data, type=_Version).format_version
        if version > FORMAT_VERSION:
            raise SinkRefused(
                f"{path} is of version {version}, and this embedmq knows versions up to {FORMAT_VERSION}: "
                "use the release that wrote it, or name another sink"
            )
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, ValueError) as error:
        raise SinkRefused(
            f"{path} cannot be read ({error}): bring it back from a copy, or delete the folder to write all of it anew"
        ) from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace it as a whole, durably."""
    replace_file(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def hold_against(folder: Path, manifest: Manifest, kind: Kind, shape: Shape) -> None:
    """Raise SinkRefused where what is there and what is to come do not go together, naming both."""
    if differences := "; ".join(_differences(manifest, kind, shape)):
        raise SinkRefused(
            f"{folder} was written with other settings: {differences}. Name another sink, or delete the folder to "
            "write all of it anew"
        )


def _differences(manifest: Manifest, kind: Kind, shape: Shape) -> Iterator[str]:
    if manifest.kind != kind:
        yield f"format {manifest.kind} there, {kind} here"
    for field in Shape.__struct_fields__:
        there, here = getattr(manifest.shape, field), getattr(shape, field)
        if there != here:
            yield f"{'kept columns' if field == 'keep' else field} {_shown(there)} there, {_shown(here)} here"


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value) or "unknown"
