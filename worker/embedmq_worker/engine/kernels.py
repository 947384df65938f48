"""How does every token of a batch without padding see its own sequence, and nothing else?"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from embedmq_worker.engine.rows import Layout, Unpackable

BLOCK_TOKENS = 64
"""Fewest queries of one call where a window is narrow: below this the calls cost more than the keys they save."""


PRODUCT_TOKENS = range(96, 1025)
"""Lengths at which spelling attention out is faster in bfloat16 on a CPU: below, calls cost more, above, memory."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which tokens of its sequence a token sees."""

    causal: bool
    """None after itself."""
    window: int | None
    """Those less than `window` places away; None for all."""
    scale: float | None
    """Of the products of queries and keys; None for one over the root of their width."""


class AttentionUnsupported(Exception):
    """A model's attention asks for what no kernel here can do: it cannot be packed."""


class Kernel(Protocol):
    """A way to compute attention."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, pattern: Pattern) -> Tensor:
        """From three `(1, heads, T, width)`, keys and values perhaps of fewer heads, to `(1, T, heads, width)`."""
        ...


class Form(NamedTuple):
    """A part of a window: `queries` tokens, the first of them `before` places after the first of `keys` tokens."""

    queries: int
    keys: int
    before: int
    window: int
    causal: bool

    def mask(self, device: torch.device) -> Tensor:
        """`(queries, keys)`, true where seen."""
        places = torch.arange(self.before, self.before + self.queries, device=device)
        away = places[:, None] - torch.arange(self.keys, device=device)
        near = away.abs() < self.window
        return near & (away >= 0) if self.causal else near


@dataclass(frozen=True, slots=True)
class Sequences:
    """What one forward pass tells each of its layers."""

    layout: Layout
    kernel: Kernel
    longest: int
    masks: dict[Form, Tensor] = field(default_factory=dict)
    """Of windows: the same in each layer, so made once a pass, and gone with it."""


def choose(device: torch.device, dtype: torch.dtype) -> Kernel | Unpackable:
    """The kernel for a device: on a GPU only one that takes all sequences in one call is any faster than padding."""
    if device.type == "cpu":
        return one_by_one
    if device.type != "cuda":
        return Unpackable(f"on {device.type}, torch has no attention for sequences of mixed lengths")
    if dtype not in (torch.float16, torch.bfloat16):
        return Unpackable(f"on a GPU, attention for sequences of mixed lengths is of 16 bits, not {dtype}")
    if torch.cuda.get_device_capability(device) < (8, 0):
        return Unpackable("attention for sequences of mixed lengths needs a GPU of the Ampere generation or later")
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return Unpackable("this torch has no attention for sequences of mixed lengths (varlen_attn)")
    # it gives a tuple only if asked for more than the result
    function = cast("Callable[..., Tensor]", varlen_attn)
    return AllAtOnce(function, frozenset(inspect.signature(varlen_attn).parameters))


@dataclass(frozen=True, slots=True)
class AllAtOnce:
    """torch's `varlen_attn`, with the options that the installed version has."""

    function: Callable[..., Tensor]
    options: frozenset[str]

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, pattern: Pattern) -> Tensor:
        """One call for all sequences.

        Raises:
            AttentionUnsupported: the model has windows, and the kernel has none.
        """
        groups = query.shape[1] // key.shape[1]
        options: dict[str, object] = {}
        if groups > 1 and "enable_gqa" in self.options:
            options["enable_gqa"] = True
        elif groups > 1:
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        if pattern.scale is not None and "scale" in self.options:
            options["scale"] = pattern.scale
        elif pattern.scale is not None:
            query = query * (pattern.scale * query.shape[-1] ** 0.5)
        if "window_size" in self.options:
            # the kernel counts the neighbours on either side, a window here counts the token itself as well; -1: all
            reach = -1 if pattern.window is None else pattern.window - 1
            options["window_size"] = (reach, 0 if pattern.causal else reach)
        elif pattern.window is not None:
            raise AttentionUnsupported("its attention has windows, which this torch's varlen_attn has not")
        else:
            options["is_causal"] = pattern.causal
        starts, longest = sequences.layout.starts, sequences.longest
        tokens_first = (part[0].transpose(0, 1) for part in (query, key, value))
        return self.function(*tokens_first, starts, starts, longest, longest, **options)[None]


def one_by_one(query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, pattern: Pattern) -> Tensor:
    """One call for each sequence: on a CPU a call costs little beside its arithmetic."""
    lengths, grouped = list(sequences.layout.lengths), query.shape[1] != key.shape[1]
    queries, keys, values = (torch.split(tensor, lengths, 2) for tensor in (query, key, value))
    seen: list[Tensor] = []
    for q, k, v in zip(queries, keys, values, strict=True):
        if pattern.window is not None and q.shape[2] > pattern.window:
            seen.extend(_in_blocks(q, k, v, sequences, pattern, pattern.window))
        elif q.dtype == torch.bfloat16 and not grouped and not pattern.causal and q.shape[2] in PRODUCT_TOKENS:
            seen.append(_by_products(q, k, v, pattern))
        else:
            whole = scaled_dot_product_attention(
                q, k, v, is_causal=pattern.causal, scale=pattern.scale, enable_gqa=grouped
            )
            seen.append(whole)
    return torch.cat([part.transpose(1, 2) for part in seen], 1)


def _by_products(query: Tensor, key: Tensor, value: Tensor, pattern: Pattern) -> Tensor:
    """Attention spelled out: two products and a softmax, which on a CPU are faster in bfloat16 than torch's own."""
    scale = query.shape[3] ** -0.5 if pattern.scale is None else pattern.scale
    scores = torch.bmm(query[0] * scale, key[0].transpose(1, 2))
    torch.softmax(scores, -1, out=scores)
    return torch.bmm(scores, value[0])[None]


def _in_blocks(
    query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, pattern: Pattern, window: int
) -> Iterator[Tensor]:
    """A window over one long sequence: blocks of queries, each with no more keys than some of them see."""
    length, grouped = query.shape[2], query.shape[1] != key.shape[1]
    step = max(window, BLOCK_TOKENS)
    for start in range(0, length, step):
        stop = min(start + step, length)
        first, last = max(0, start - window + 1), stop if pattern.causal else min(length, stop + window - 1)
        form = Form(stop - start, last - first, start - first, window, pattern.causal)
        if (mask := sequences.masks.get(form)) is None:
            mask = sequences.masks[form] = form.mask(query.device)
        q, k, v = query[:, :, start:stop], key[:, :, first:last], value[:, :, first:last]
        yield scaled_dot_product_attention(q, k, v, mask, scale=pattern.scale, enable_gqa=grouped)
