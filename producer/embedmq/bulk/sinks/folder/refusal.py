"""What does a person do about an error of the disk?"""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from embedmq.bulk.errors import SinkRefused

_AGAIN = "and run the same command again: what was committed is kept"
_REMEDIES = {
    errno.ENOSPC: f"free some space {_AGAIN}",
    errno.EDQUOT: f"free some of your quota {_AGAIN}",
    errno.EFBIG: f"raise the largest size of a file (ulimit -f) {_AGAIN}",
    errno.EMFILE: f"raise the number of open files (ulimit -n) {_AGAIN}",
    errno.EACCES: "give this user the right to write there, or name another sink",
    errno.EPERM: "give this user the right to write there, or name another sink",
    errno.EROFS: "it is mounted read-only: name another sink",
    errno.ENOTDIR: "a file is in the way, and this sink is a folder of parts: move it away, or name another sink",
}
_REMEDIES[errno.EEXIST] = _REMEDIES[errno.ENOTDIR]


def refusal(folder: Path, error: Exception) -> SinkRefused:
    """What to raise for an OSError, a sqlite3.Error, or text or numbers that no file can hold (ValueError)."""
    match error:
        case OSError():
            remedy = _REMEDIES.get(error.errno or 0, f"look after the disk {_AGAIN}")
            return SinkRefused(f"cannot write {folder}: {error.strerror or error}: {remedy}")
        case sqlite3.Error():
            return SinkRefused(
                f"cannot write the index of {folder} ({error}): free some space, or delete {folder}/_embedmq.ids*, "
                f"which is made anew from the parts, {_AGAIN}"
            )
        case UnicodeEncodeError():
            return SinkRefused(f"cannot write {error.object!r} into {folder}, since it is no text: mend that row")
        case _:
            return SinkRefused(f"cannot write into {folder}: {error}: mend that row")
