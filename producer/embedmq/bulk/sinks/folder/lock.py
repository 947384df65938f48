"""Who writes into a folder?"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from embedmq.bulk.errors import JobTaken

LOCK = "_embedmq.lock"


class Lock:
    """The kernel's lock on a file: it is gone with its process, however that ends. The file stays and names the pid."""

    def __init__(self, folder: Path) -> None:
        """Raises JobTaken where another sink, of this process or another, has the folder; OSError."""
        self._file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, str(os.getpid()).encode(), 0)
        except BlockingIOError:
            holder = os.pread(self._file, 20, 0).decode() or "unknown"
            self.release()
            raise JobTaken(
                f"process {holder} writes into {folder}: wait until it has ended, or name another sink"
            ) from None
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        os.close(self._file)
