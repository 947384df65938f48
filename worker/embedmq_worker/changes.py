"""What can happen to a model?"""

from __future__ import annotations

from msgspec import Struct

from embedmq_worker.engine.seam import ModelFacts
from embedmq_worker.errors import WorkerError


class Loaded(Struct, frozen=True):
    """A model is in memory, after `load_s` seconds."""

    model: str
    facts: ModelFacts
    load_s: float


class Failed(Struct, frozen=True):
    """A model cannot be had for a while: what waits for it is to be answered."""

    model: str
    error: WorkerError


class Evicted(Struct, frozen=True):
    """A model is gone, and its memory free."""

    model: str


class Repointed(Struct, frozen=True):
    """Another checkpoint answers for a model from now on; the one before is gone, and what was computed by it is no
    part of any answer that is not given yet.
    """

    model: str


Change = Loaded | Failed | Evicted | Repointed
