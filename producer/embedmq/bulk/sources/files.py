"""Which files does an address name, in which order, and are they those that were read before?"""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from embedmq.bulk.errors import SourceRefused
from embedmq.bulk.failed import ENDING
from embedmq.bulk.sinks.folder.manifest import MANIFEST

RESTART: Final = "Put it back as it was, or begin anew with --restart"

_MAGIC = re.compile(r"[*?\[]")


class File(Struct, frozen=True):
    """A file of a source. `name` is its path below what the address names, for people and for positions."""

    path: Path
    name: str
    several: bool
    """Whether the address names files, of which this is one: then a row's number alone is no id."""

    def number(self, row: int) -> str:
        """The id of a row that has no other."""
        return f"{self.name}:{row}" if self.several else str(row)


class Opened(Struct, frozen=True):
    """A file to read, and what was passed before it: a digest of names and sizes."""

    file: File
    passed: str


def find_files(address: str, endings: Collection[str]) -> list[File]:
    """The files of a path, a glob or a folder, sorted by name; of folders those with one of the endings.

    Folders are read as Spark writes them: parts at any depth, but what begins with `.` or `_` is passed over. So is
    what jobs write, unless it is named itself: else a job would feed on its own failures and vectors. Raises
    SourceRefused where there is none.
    """
    path = Path(address).expanduser()
    if path.is_file():
        return [File(path, _readable(path.name), several=False)]
    root = path if path.is_dir() else _fixed_part(path)
    found = {part for match in _matches(path) for part in _parts(match, endings) if not _is_written(part, path)}
    if not found:
        raise SourceRefused(f"--source {address}: {_why_none(path, endings)}")
    named = sorted((_readable(part.relative_to(root).as_posix()), part) for part in found)
    return [File(part, name, several=True) for name, part in named]


def following(files: Sequence[File], name: str | None, passed: str) -> Iterator[Opened]:
    """The files from the named one on, or all. Raises SourceRefused unless those before it are as they were."""
    digest, begun = "", name is None
    for file in files:
        if file.name == name:
            if digest != passed:
                raise SourceRefused(f"the files before {name} are not those that were read before it. {RESTART}")
            begun = True
        if begun:
            yield Opened(file, digest)
        digest = _passing(digest, file)  # after it was read: it may have grown until then
    if not begun:
        raise SourceRefused(f"{name}, up to which was read, is gone. {RESTART}")


def unreadable(file: File, error: Exception) -> SourceRefused:
    """What ends reading in the middle of a file."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return SourceRefused(f"{file.path} cannot be read: {reason}")


def _passing(digest: str, file: File) -> str:
    try:
        size = file.path.stat().st_size
    except OSError as error:
        raise unreadable(file, error) from error
    return hashlib.blake2b(f"{digest}\n{file.name}\n{size}".encode(), digest_size=16).hexdigest()


def _matches(path: Path) -> list[Path]:
    return [path] if path.exists() else [Path(match) for match in glob.glob(str(path), recursive=True)]


def _parts(path: Path, endings: Collection[str]) -> Iterator[Path]:
    if path.is_file():
        if not path.name.startswith((".", "_")):
            yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        for name in names:
            if not name.startswith((".", "_")) and name.lower().endswith(tuple(endings)):
                yield Path(folder, name)


def _is_written(part: Path, asked: Path) -> bool:
    """Whether a job wrote a file that was not asked for as such: failed rows, or a part of a sink's folder."""
    if part.name.endswith(ENDING) and not asked.name.endswith(ENDING):
        return True
    return part.parent not in (asked, asked.parent) and Path(part.parent, MANIFEST).exists()


def _fixed_part(path: Path) -> Path:
    """The folder above the first part that is a pattern, or above the file."""
    plain = itertools.takewhile(lambda part: not _MAGIC.search(part), path.parts[:-1])
    return Path(*plain)


def _why_none(path: Path, endings: Collection[str]) -> str:
    if path.is_dir():
        return f"no file in this folder ends with {' or '.join(endings)}"
    if _MAGIC.search(str(path)):
        return "no file matches"
    return "there is no such file or folder"


def _readable(name: str) -> str:
    """A name that UTF-8 can write."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
