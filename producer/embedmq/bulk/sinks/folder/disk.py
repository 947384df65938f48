"""When is a file on the disk, and not only with the operating system?"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def new_name(path: Path) -> Path:
    """Under which name a file is written that is going to replace another."""
    return path.with_name(f".{path.name}.new")


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in the place of a file: after a kill or a power cut it is the old one or the new one, whole.

    The folder is synced before, too: names that `data` speaks of are there whenever it is.
    """
    hidden = new_name(path)
    try:
        hidden.write_bytes(data)
        sync(hidden)
        sync(path.parent)
        os.replace(hidden, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(hidden)
        raise
    sync(path.parent)


def abandon(file: IO[bytes]) -> None:
    """Close a file whose content is of no matter any more; raises nothing."""
    with contextlib.suppress(OSError):
        file.close()
