"""How does a model come into memory, and what if it does not?"""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from functools import partial
from typing import Protocol, TypeVar

from embedmq_worker.engine.seam import Engine
from embedmq_worker.errors import CheckpointBroken, OutOfMemory, WorkerError
from embedmq_worker.offload import in_thread

T = TypeVar("T")

log = logging.getLogger(__name__)


class Opener(Protocol):
    """How models come into memory. Both may take minutes, and are called in threads of their own."""

    def size_bytes(self, model: str) -> int:
        """What it will take, as far as can be told without loading it."""
        ...

    def load(self, model: str) -> Engine:
        """Load it."""
        ...


async def size_bytes(opener: Opener, model: str) -> int:
    """What a model will take, found out in a thread.

    Raises:
        WorkerError: it cannot be found out.
    """
    return await _named(model, in_thread(partial(opener.size_bytes, model), f"size-{model}"))


async def load(opener: Opener, model: str) -> Engine:
    """Load a model in a thread.

    Raises:
        WorkerError: it cannot be loaded.
    """
    return await _named(model, in_thread(partial(opener.load, model), f"load-{model}"))


async def _named(model: str, opening: Coroutine[None, None, T]) -> T:
    """Whatever the libraries beneath raise becomes an error of ours, since it concerns this model only."""
    try:
        return await opening
    except WorkerError:
        raise
    except MemoryError as error:
        raise OutOfMemory(f"{model}: the machine had too little memory to load it") from error
    except Exception as error:  # the libraries beneath have errors of their own
        log.exception("model_load_raised", extra={"model": model})
        raise CheckpointBroken(f"{model}: {type(error).__name__}: {error}") from error
