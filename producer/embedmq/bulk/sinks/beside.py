"""Where is the checkpoint of a sink that has no room for it inside?"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from embedmq.bulk.errors import CheckpointRefused
from embedmq.bulk.sinks.folder.disk import replace_file
from embedmq.bulk.sinks.folder.lock import Lock


class Beside:
    """A folder with one small file a job, held by one process at a time."""

    def __init__(self, folder: Path) -> None:
        """Make and hold it; raises JobTaken, CheckpointRefused."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(folder)
        except OSError as error:
            raise self._refusal(error) from None

    def load(self, job: str) -> bytes | None:
        """What was kept last; None where nothing was."""
        try:
            return self._file(job).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refusal(error) from None

    def keep(self, job: str, checkpoint: bytes) -> None:
        """Replace it: after a kill it is the old one or the new one."""
        try:
            replace_file(self._file(job), checkpoint)
        except OSError as error:
            raise self._refusal(error) from None

    def forget(self, job: str) -> None:
        """Remove it."""
        try:
            self._file(job).unlink(missing_ok=True)
        except OSError as error:
            raise self._refusal(error) from None

    def release(self) -> None:
        """Let others have the folder."""
        self._lock.release()

    def _file(self, job: str) -> Path:
        return self._folder / f"{quote(job, safe='')}.json"

    def _refusal(self, error: OSError) -> CheckpointRefused:
        message = f"the checkpoint cannot be kept in {self._folder}: {error.strerror or error}"
        return CheckpointRefused(f"{message}: make room for it, and let it be read and written")
