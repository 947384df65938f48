"""How do the vectors of a text's tokens become one? Without padding, in float32, and without waiting for the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from embedmq_worker.engine.rows import Layout

SMALLEST_WEIGHT = 1e-9
"""Where a prompt that is not pooled is all there is, its mean is zero and no division by zero."""


def pool(hidden: Tensor, layout: Layout, modes: Sequence[str]) -> Tensor:
    """Pool `(T, width)` token vectors into `(n, width * len(modes))`, the modes side by side.

    What the modes mean, also where `layout.skips` leaves leading tokens out, is defined by sentence-transformers'
    `Pooling`; sums are taken in float32 whatever the compute dtype.
    """
    tokens = _Tokens(hidden, layout)
    return torch.cat([MODES[mode](tokens) for mode in modes], dim=1)


def sum_rows(values: Tensor, layout: Layout) -> Tensor:
    """Sum of the rows `(T, width)` of each sequence: `(n, width)`."""
    return values.new_zeros(len(layout.lengths), values.shape[1]).index_add_(0, layout.rows.long(), values)


def max_rows(values: Tensor, layout: Layout) -> Tensor:
    """Largest of each column of the rows `(T, width)` of each sequence: `(n, width)`."""
    least = values.new_full((len(layout.lengths), values.shape[1]), float("-inf"))
    return least.scatter_reduce_(0, layout.rows.long()[:, None].expand_as(values), values, "amax")


@dataclass(frozen=True, slots=True)
class _Tokens:
    hidden: Tensor
    layout: Layout

    @property
    def lengths(self) -> Tensor:
        return (self.layout.starts[1:] - self.layout.starts[:-1])[:, None]

    @property
    def skips(self) -> Tensor | None:
        return None if self.layout.skips is None else self.layout.skips[:, None]

    def kept(self) -> Tensor | None:
        """`(T, 1)`, whether a token counts; None where all do."""
        if self.layout.skips is None:
            return None
        return (self.layout.positions >= self.layout.skips[self.layout.rows])[:, None]


def _first(tokens: _Tokens) -> Tensor:
    first = tokens.layout.starts[:-1]
    if tokens.skips is not None:  # of a text that is nothing but its prompt, the first token of all
        first = first + torch.where(tokens.lengths > tokens.skips, tokens.skips, 0)[:, 0]
    return tokens.hidden[first].float()


def _last(tokens: _Tokens) -> Tensor:
    last = tokens.hidden[tokens.layout.starts[1:] - 1].float()
    return last if tokens.skips is None else last * (tokens.lengths > tokens.skips)


def _max(tokens: _Tokens) -> Tensor:
    kept = tokens.kept()
    values = tokens.hidden.float()
    return max_rows(values if kept is None else values.masked_fill(~kept, float("-inf")), tokens.layout)


def _mean(tokens: _Tokens) -> Tensor:
    return _sum(tokens) / _count(tokens)


def _mean_sqrt(tokens: _Tokens) -> Tensor:
    return _sum(tokens) / _count(tokens).sqrt()


def _weighted(tokens: _Tokens) -> Tensor:
    """The later a token, the more it weighs: its place, counted from one, prompt included."""
    kept = tokens.kept()
    weights = (tokens.layout.positions + 1).float()[:, None]
    weights = weights if kept is None else weights * kept
    total = sum_rows(weights, tokens.layout).clamp_min(SMALLEST_WEIGHT)
    return sum_rows(tokens.hidden.float() * weights, tokens.layout) / total


def _sum(tokens: _Tokens) -> Tensor:
    kept = tokens.kept()
    values = tokens.hidden.float()
    return sum_rows(values if kept is None else values * kept, tokens.layout)


def _count(tokens: _Tokens) -> Tensor:
    count = tokens.lengths if tokens.skips is None else tokens.lengths - tokens.skips
    return count.float().clamp_min(SMALLEST_WEIGHT)


MODES: dict[str, Callable[[_Tokens], Tensor]] = {
    "cls": _first,
    "lasttoken": _last,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted,
}
"""By the names that sentence-transformers gives them."""
