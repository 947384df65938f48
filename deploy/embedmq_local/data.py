"""In which folder does a stack live, and what stays of it?"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from pathlib import Path

from embedmq_local.errors import ConfigurationError
from embedmq_local.kafka import new_cluster_id


class Data:
    """The folder of one stack: the caller's, which stays, or a temporary one, which goes."""

    def __init__(self, folder: Path | None, brokers: int) -> None:
        """`ConfigurationError` if another stack uses the folder or it was made with another number of brokers."""
        self.persistent = folder is not None
        self.folder = (folder or Path(tempfile.mkdtemp(prefix="embedmq-"))).resolve()
        try:
            (self.folder / "logs").mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "stack").open("a+")
        except OSError as error:
            raise ConfigurationError(
                f"cannot write to {self.folder}: {error.strerror}; choose another folder"
            ) from error
        try:
            self.cluster = self._open(brokers)
        except BaseException:
            self._lock.close()
            raise

    @property
    def scratch(self) -> Path | None:
        """What goes when the stack goes; None if the folder is the caller's."""
        return None if self.persistent else self.folder

    def _open(self, brokers: int) -> str:
        """The cluster id of the folder, which is made on first use."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(f"{self.folder} is in use by another stack; choose another folder") from error
        self._lock.seek(0)
        cluster, _, made_with = self._lock.read().partition(" ")
        if not cluster:
            cluster = new_cluster_id()
            self._lock.write(f"{cluster} {brokers}")
            self._lock.flush()
        elif made_with != str(brokers):
            raise ConfigurationError(
                f"{self.folder} was made with {made_with} broker(s), not {brokers}; choose another folder"
            )
        return cluster

    def close(self, *, keep_logs: bool) -> None:
        """Remove a temporary folder, less its logs where they tell why something failed."""
        self._lock.close()
        if self.persistent:
            return
        for entry in self.folder.iterdir() if keep_logs else (self.folder,):
            if entry.is_file():
                entry.unlink()
            elif entry.name != "logs":
                shutil.rmtree(entry, ignore_errors=True)
