"""A worker for the tests of a module, under a prefix that no other has."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedmq_local.stack import Stack

from tests import held
from tests.held import Hold


@contextmanager
def serving(stack: Stack, folder: Path, config: str) -> Iterator[str]:
    """The prefix under which a worker with this configuration, less the prefix, serves from now on. A `Hold` of the
    folder holds it, where a model declares how long it takes."""
    prefix = f"t{uuid.uuid4().hex[:10]}"
    file = folder / "worker.toml"
    file.write_text(f'prefix = "{prefix}"\n{config}')
    program = held.command(file) if "_ms=" in config else None
    worker = stack.start_worker(file, Hold(folder).environment, program)
    worker.wait_ready()
    yield prefix
    worker.stop()
