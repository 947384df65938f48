"""What does the road ask of an engine, and what does it get?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from embedmq_schemas.codes import Code
from embedmq_schemas.requests import Item
from embedmq_schemas.results import Sparse
from embedmq_schemas.vectors import Array, Dtype
from msgspec import Struct
from numpy.typing import NDArray

Ids = NDArray[np.int32]


class ModelFacts(Struct, frozen=True, kw_only=True):
    """What one loaded model can do; requests are checked against it before they cost anything."""

    dimensions: int
    max_tokens: int
    outputs: tuple[str, ...] = ("dense",)
    scores: bool = False
    prompts: tuple[str, ...] = ()
    vocabulary: int = 0
    revision: str = ""
    computed_in: str = "float32"
    path: str = ""
    """Which way through the engine its batches take."""
    bytes: int = 0
    tokens_per_s: float = float("inf")
    """Measured at load."""
    tokenizes: bool = True
    """Whether `prepare` is slow enough to be sent to a thread."""


class Options(Struct, frozen=True, gc=False):
    """How one request wants its vectors. Options never split a batch."""

    outputs: tuple[str, ...] = ("dense",)
    prompt_name: str | None = None
    prompt: str | None = None
    dimensions: int | None = None
    dtype: Dtype = "float32"
    normalize: bool | None = None
    truncate: bool = True


class Fault(Struct, frozen=True, gc=False):
    """Why one item, or one request, gets no vector."""

    code: Code
    message: str


class Prepared(Struct, frozen=True, gc=False):
    """The items of one request, cut into tokens: `tokens[i]` of item `i`, 0 where it has a fault."""

    tokens: list[int]
    ids: list[Ids] | None
    """Token ids with the model's special tokens; None from engines that need none."""
    truncated: list[int]
    faults: dict[int, Fault]


class Slice(Struct, frozen=True, gc=False):
    """The part of one request that goes into a batch: items `start` up to `stop`."""

    prepared: Prepared
    options: Options
    start: int
    stop: int


class Encoded(Struct, frozen=True, gc=False):
    """The answer to one slice: `dense` is `(stop - start, width)` of the wanted dtype, void where an item failed."""

    dense: Array | None = None
    scales: NDArray[np.float32] | None = None
    sparse: list[Sparse] | None = None
    multivector: list[Array] | None = None


class Engine(Protocol):
    """One loaded model."""

    @property
    def facts(self) -> ModelFacts:
        """What it can do."""
        ...

    def prepare(self, requests: Sequence[tuple[Sequence[Item], Options]]) -> list[Prepared]:
        """Cut the items of many requests into tokens. Called in any thread."""
        ...

    def encode(self, batch: Sequence[Slice]) -> list[Encoded]:
        """Compute one batch. Called in the device's thread only."""
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...
