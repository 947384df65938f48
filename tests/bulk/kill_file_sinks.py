"""Runs one short job on folder after folder, and is killed at the first step on the disk, the second, the third…

`python -m tests.bulk.kill_file_sinks FOLDER KIND`: folders `0.KIND`, `1.KIND`, … until a job came to its end. Each job
is a fork of this process, which costs nothing beside a new interpreter, and ends by SIGKILL just before its n-th fsync,
rename, unlink or mkdir.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pyarrow.parquet  # noqa: F401 - once, before the forks

from tests.bulk.file_sinks import Disk, opened, vectors

COMMITS: dict[bytes | None, dict[str, int]] = {
    None: {},
    b"1": {"a": 1, "b": 1, "c": 1},
    b"2": {"a": 1, "b": 1, "c": 1, "d": 2},
    b"3": {"a": 1, "b": 3, "c": 3, "d": 3, "e": 4},
}
"""What the folder holds at each checkpoint."""


def job(folder: Path) -> None:
    """Three commits: new rows; more of them; then rows of two parts again, and one of these twice."""
    sink = opened(folder)
    sink.write(vectors({"a": 1, "b": 1, "c": 1}))
    sink.commit(b"1")
    sink.write(vectors({"d": 2}))
    sink.commit(b"2")
    sink.write(vectors({"b": 3, "c": 3, "d": 3, "e": 3}))
    sink.write(vectors({"e": 4}))
    sink.commit(b"3")
    sink.close()


def killed_after(steps: int, folder: Path) -> bool:
    child = os.fork()
    if not child:
        disk = Disk(setattr)
        disk.stop_after(steps, lambda: os.kill(os.getpid(), signal.SIGKILL))
        job(folder)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in {0, -signal.SIGKILL}:
        raise SystemExit(f"the job ended with {status} at step {steps}")
    return status != 0


if __name__ == "__main__":
    steps = 0
    while killed_after(steps, Path(sys.argv[1]) / f"{steps}.{sys.argv[2]}"):
        steps += 1
    print(steps)
