"""Where do rows go that could not be embedded?"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from embedmq.bulk.errors import CheckpointRefused
from embedmq.bulk.rows import Columns, Flaw, Scalar

ERROR = "error"
"""The field that says why; the others are called as in the source, so the file can be the source of another job."""

ENDING = ".failed.jsonl"
FIRST_LINE_BYTES = 16 * 1024 * 1024


class FailedRows:
    """A file of JSON lines, one for each row that failed; there is none while none has.

    What was written after the last checkpoint is cut off when the job goes on.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path = path
        self._columns = columns
        self._file: BinaryIO | None = None
        self.length_bytes = 0

    def check(self) -> None:
        """Raises CheckpointRefused where no file can be written, while nothing is lost yet."""
        place = self.path if self.path.exists() else self.path.parent
        if not os.access(place, os.W_OK):
            why = "no permission to write there" if place.exists() else "there is no such folder"
            raise self._refused(OSError(0, why))
        if self.path.exists() and not _is_ours(self.path):
            message = f"{self.path} is there and has no failed rows of a job"
            raise CheckpointRefused(f"{message}: move it away, or name another file with --failed")

    def open(self, length_bytes: int) -> None:
        """Keep the first `length_bytes`, or what there still is: somebody may have taken the file to look at it."""
        try:
            size = self.path.stat().st_size if self.path.exists() else 0
            length_bytes = min(size, length_bytes)
            if length_bytes == 0:
                self.path.unlink(missing_ok=True)
            elif size > length_bytes:
                os.truncate(self.path, length_bytes)
            self.length_bytes = length_bytes
        except OSError as error:
            raise self._refused(error) from error

    def write(self, flaws: Sequence[Flaw]) -> None:
        """Add a line for each."""
        if not flaws:
            return
        try:
            if self._file is None:
                self._file = self.path.open("ab")
            self.length_bytes += self._file.write(b"".join(self._line(flaw) for flaw in flaws))
        except OSError as error:
            raise self._refused(error) from error

    def sync(self) -> None:
        """Make it durable."""
        if self._file is None:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Let go of the file."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # a full disk: what is behind the checkpoint does not count
                file.close()

    def _line(self, flaw: Flaw) -> bytes:
        own = {self._columns.id or "id": flaw.id, self._columns.text: flaw.text}
        told = {name: _writable(value) for name, value in {**flaw.kept, **own}.items()}
        why = {"code": flaw.code, "message": _writable(flaw.message), "where": flaw.where}
        return msgspec.json.encode({**told, ERROR: why}) + b"\n"

    def _refused(self, error: OSError) -> CheckpointRefused:
        message = f"{self.path}, where failed rows go, cannot be written: {error.strerror}"
        return CheckpointRefused(f"{message}: make room, or name another file with --failed")


def path_for(job: str) -> Path:
    """Where the failed rows of a job go that was told no other place: where the command runs."""
    return Path(f"{job}{ENDING}")


def _writable(value: Scalar) -> Scalar:
    """Half a pair of UTF-16, which UTF-8 cannot write, becomes a question mark."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _is_ours(path: Path) -> bool:
    """Whether the first line is one of a row that failed; an empty file may be written over, too."""
    with path.open("rb") as file:
        line = file.readline(FIRST_LINE_BYTES)
    try:
        return not line or ERROR in msgspec.json.decode(line, type=dict[str, object])
    except msgspec.MsgspecError:
        return len(line) == FIRST_LINE_BYTES
