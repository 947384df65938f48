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
    """Width of a dense vector; 0 without that output."""
    max_tokens: int
    outputs: tuple[str, ...] = ("dense",)
    """What `embed` may ask for: `dense`, `sparse`, `multivector`; none of a model that scores."""
    scores: bool = False
    """Whether it is a cross-encoder."""
    token_dimensions: int = 0
    """Width of the vectors of `multivector`."""
    prompts: tuple[str, ...] = ()
    vocabulary: int = 0
    revision: str = ""
    computed_in: str = "float32"
    path: str = ""
    """Which way through the engine its batches take: `packed`, `padded`, `sentence-transformers` or `null`, …"""
    reason: str = ""
    """… and why, in one sentence."""
    bytes: int = 0
    workspace_bytes: int = 0
    """Most that one batch took beside the weights, measured at load."""
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


class Ask(Struct, frozen=True, gc=False):
    """What one request wants computed: items, or the documents that `query` is compared with."""

    items: Sequence[Item]
    options: Options
    query: str | None = None


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
    firsts: list[int] | None = None
    """Of pairs: how many leading tokens of each row are the query's, special tokens included."""
    skips: list[int] | None = None
    """How many leading tokens of each row are a prompt's that the model does not pool; None where it pools all."""


class Slice(Struct, frozen=True, gc=False):
    """The part of one request that goes into a batch: items `start` up to `stop`."""

    prepared: Prepared
    options: Options
    start: int
    stop: int


class Block(Struct, frozen=True, gc=False):
    """Rows of numbers of the wanted dtype; `scales`, one a row, belong to `int8` only."""

    data: Array
    scales: NDArray[np.float32] | None = None


class Encoded(Struct, frozen=True, gc=False):
    """The answer to one slice of `n = stop - start` items; void where an item failed (NaN, or 0 in integer types).

    Only what was asked for is there. Arrays own their memory: a view would keep the whole batch alive.
    """

    dense: Block | None = None
    """`(n, width)`."""
    sparse: list[Sparse] | None = None
    """One an item; empty where it failed."""
    multivector: list[Block] | None = None
    """One `(tokens, width)` an item; no rows where it failed."""
    scores: NDArray[np.float32] | None = None
    """`(n,)`, of a cross-encoder."""


class Running(Protocol):
    """A batch on the device."""

    def collect(self) -> list[Encoded]:
        """Wait until it is computed and hand out its answers, slice by slice. Called once, in any one thread.

        Raises:
            OutOfMemory: the device had too little memory for it.
            DeviceLost: the device computes nothing more for this process.
        """
        ...


class Done:
    """A batch that is already computed."""

    def __init__(self, answers: list[Encoded]) -> None:
        self._answers = answers

    def collect(self) -> list[Encoded]:
        """Hand the answers out."""
        return self._answers


class Engine(Protocol):
    """One loaded model."""

    @property
    def facts(self) -> ModelFacts:
        """What it can do."""
        ...

    def prepare(self, asks: Sequence[Ask]) -> list[Prepared]:
        """Cut the items of many requests into tokens. Called in any thread."""
        ...

    def launch(self, batch: Sequence[Slice]) -> Running:
        """Give one batch to the device; returns when the device has it, which on a CPU is when it is computed.

        Called in the device's thread only. Whatever the options of its slices, it is one forward pass.

        Raises:
            OutOfMemory: the device had too little memory for it.
            DeviceLost: the device computes nothing more for this process.
        """
        ...

    def free_cache(self) -> None:
        """Give back what the allocator keeps for later.

        Raises:
            DeviceLost: as `launch`.
        """
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...
