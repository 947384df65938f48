"""Which files of a folder are parts, which are on their way to be, and which are not ours?"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from embedmq.bulk.errors import SinkRefused
from embedmq.bulk.sinks.folder.manifest import Manifest, Part

_HIDDEN = re.compile(r"\.part-\d{5,}(\.[a-z]+)+\.\d+")


def local_path(uri: str, kind: str) -> Path:
    """The folder that an address means: a path, `file://PATH`, or a path behind the format's own scheme.

    Raises:
        SinkRefused: the address is of another place than this machine's disk.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Path(uri)
    if scheme not in {"file", kind} or not rest:
        raise SinkRefused(f"{uri} is no folder of this machine: name a path such as vectors.{kind}")
    return Path(unquote(rest))


def part_name(number: int, suffix: str) -> str:
    """As readers see it."""
    return f"part-{number:05d}{suffix}"


def hidden_name(name: str, generation: int) -> str:
    """Until its commit: readers pass over what begins with a dot, and no pattern such as `*.parquet` finds it."""
    return f".{name}.{generation}"


def hidden_files(folder: Path) -> Iterator[Path]:
    """Every file of a part that is still under its hidden name."""
    return (folder / entry for entry in os.listdir(folder) if _HIDDEN.fullmatch(entry))


def locate(folder: Path, part: Part) -> list[Path]:
    """Where the files of a part are: a commit that was interrupted may have left them under their hidden names."""
    hidden = [folder / hidden_name(name, part.generation) for name in part.files]
    return [path if path.exists() else folder / name for path, name in zip(hidden, part.files, strict=True)]


def refuse_strangers(folder: Path, manifest: Manifest | None) -> None:
    """Raise SinkRefused for a folder with files that readers would take for rows and that the manifest does not know.

    What begins with `_` or `.` is no matter: readers pass over it.
    """
    known = {*manifest.files(), *manifest.retired} if manifest else set()
    strangers = sorted(name for name in os.listdir(folder) if name[0] not in "._" and name not in known)
    if strangers:
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise SinkRefused(
            f"{folder} has files that are not of its manifest ({strangers[0]}{more}): move them away, or name another "
            "sink; nothing was touched"
        )
