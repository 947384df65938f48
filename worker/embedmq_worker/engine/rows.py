"""What passes between the parts of the engine that compute: a batch without padding, and what became of its tokens?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """`n` sequences end to end, `T` tokens in all, no padding. Tensors are int32 and on the device."""

    ids: Tensor
    """`(T,)` token ids."""
    positions: Tensor
    """`(T,)` places within the sequence, from 0: an architecture that counts from elsewhere adds its own offset."""
    rows: Tensor
    """`(T,)` which sequence each token belongs to."""
    starts: Tensor
    """`(n + 1,)` where each sequence begins, and where the last one ends."""
    lengths: tuple[int, ...]
    """`n` lengths, here on the host: asking the device would make it wait."""
    types: Tensor | None = None
    """`(T,)` 0 for a query's tokens, 1 for its document's; None where the model knows no types."""
    skips: Tensor | None = None
    """`(n,)` leading tokens that are not pooled; None where all are."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What a transformer made of a batch."""

    layout: Layout
    hidden: Tensor | None = None
    """`(T, hidden)` of the last layer, in the compute dtype."""
    logits: Tensor | None = None
    """`(T, vocabulary)` of a masked language model, `(n, labels)` of a sequence classifier."""


@dataclass(frozen=True, slots=True)
class Raw:
    """What a model says of each sequence, in float32, before any request's options: only what was asked for."""

    dense: Tensor | None = None
    """`(n, width)`, not normalised by the model's own last `Normalize`: slicing comes first."""
    sparse: Tensor | None = None
    """`(n, vocabulary)`, mostly zeros."""
    tokens: Tensor | None = None
    """`(T, width)` a vector for each token of the batch, for late interaction, not normalised either; …"""
    kept: Tensor | None = None
    """… and `(T,)` which of them count; None where all do. Picked out on the host: here, counting would wait."""
    scores: Tensor | None = None
    """`(n,)`, after the model's own activation."""


@dataclass(frozen=True, slots=True)
class Unpackable:
    """Why a model, or a part of it, cannot take the packed path."""

    reason: str


class Forward(Protocol):
    """A loaded model as a function."""

    @property
    def path(self) -> str:
        """`packed` or `padded`."""
        ...

    def __call__(self, layout: Layout, outputs: frozenset[str]) -> Raw:
        """Compute what is asked for (`dense`, `sparse`, `multivector`, `scores`) in one forward pass, in order."""
        ...
