"""Where do benchmarks run? One local stack for all of them, and processes of their own for each."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedmq_local.process import Process
from embedmq_local.stack import Stack
from embedmq_local.worker import Worker

ROOT = Path(__file__).parent.parent
START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Place:
    """A running stack, and where progress is said."""

    stack: Stack
    say: Callable[[str], None]

    def new_prefix(self) -> str:
        """For topics, groups and keys that nothing else uses."""
        return f"b{uuid.uuid4().hex[:8]}"

    @contextlib.contextmanager
    def worker(self, prefix: str, models: str, settings: str = "") -> Iterator[Worker]:
        """A fresh worker, ready; `models` and `settings` are TOML."""
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder, "worker.toml")
            config.write_text(f'prefix = "{prefix}"\n{settings}\n{models}\n')
            worker = self.stack.start_worker(config)
            try:
                worker.wait_ready()
                yield worker
            finally:
                worker.stop()
                worker.close()
                self.stack.workers.remove(worker)

    @contextlib.contextmanager
    def program(self, module: str, arguments: Sequence[str]) -> Iterator[Process]:
        """One of our own modules as a process that ends with this one; it is ready when it says so."""
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", module, *arguments]
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
            process = Process(module, command, Path(folder, "log"), env=environment)
            try:
                process.wait_until(lambda: "ready" in process.tail(), START_TIMEOUT_S)
                yield process
            finally:
                process.stop(15, START_TIMEOUT_S)
