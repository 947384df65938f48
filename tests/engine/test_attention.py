"""Every token sees its own sequence, in the pattern its model asks for, and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from embedmq_worker.engine.attention import attend
from embedmq_worker.engine.kernels import (
    PRODUCT_TOKENS,
    AllAtOnce,
    AttentionUnsupported,
    Kernel,
    Pattern,
    Sequences,
    choose,
    one_by_one,
)
from embedmq_worker.engine.layout import pack
from embedmq_worker.engine.rows import Unpackable
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

HEADS, WIDTH = 4, 8
LENGTHS = st.lists(st.one_of(st.integers(1, 12), st.integers(60, 150)), min_size=1, max_size=5)
PATTERNS = st.builds(
    Pattern,
    causal=st.booleans(),
    window=st.one_of(st.none(), st.integers(1, 80)),
    scale=st.one_of(st.none(), st.floats(0.1, 1)),
)


def batch(lengths: list[int], kernel: Kernel, kept_heads: int = HEADS) -> tuple[Tensor, Tensor, Tensor, Sequences]:
    """Random queries, keys and values of sequences end to end."""
    layout = pack([np.ones(length, np.int32) for length in lengths], torch.device("cpu"))
    generator = torch.Generator().manual_seed(sum(lengths))
    made = [
        torch.randn(1, heads, sum(lengths), WIDTH, generator=generator) for heads in (HEADS, kept_heads, kept_heads)
    ]
    return made[0], made[1], made[2], Sequences(layout, kernel, max(lengths))


def by_definition(query: Tensor, key: Tensor, value: Tensor, rows: Tensor, pattern: Pattern) -> Tensor:
    """The softmax over all tokens of the batch, with all masked that a token must not see."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    away = torch.arange(len(rows))[:, None] - torch.arange(len(rows))
    seen = rows[:, None] == rows
    if pattern.causal:
        seen &= away >= 0
    if pattern.window is not None:
        seen &= away.abs() < pattern.window
    scale = WIDTH**-0.5 if pattern.scale is None else pattern.scale
    products = (query @ key.transpose(2, 3) * scale).masked_fill(~seen, float("-inf"))
    return (products.softmax(-1) @ value).transpose(1, 2)


@settings(deadline=None, max_examples=50)
@given(LENGTHS, PATTERNS, st.sampled_from([4, 2, 1]))
@example([300, 7], Pattern(causal=False, window=17, scale=None), 4)
def test_one_by_one_is_attention_by_its_definition(lengths: list[int], pattern: Pattern, kept_heads: int) -> None:
    """For any lengths, windows shorter and longer than them, both directions, and keys shared between heads."""
    query, key, value, sequences = batch(lengths, one_by_one, kept_heads)
    wanted = by_definition(query, key, value, sequences.layout.rows, pattern)
    torch.testing.assert_close(one_by_one(query, key, value, sequences, pattern), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scale", [None, 0.3])
def test_in_bfloat16_it_is_that_too_however_it_is_computed(scale: float | None) -> None:
    """Below, within and above the lengths at which it is spelled out."""
    pattern = Pattern(causal=False, window=None, scale=scale)
    lengths = [5, PRODUCT_TOKENS.start - 1, PRODUCT_TOKENS.start, 300, PRODUCT_TOKENS.stop]
    query, key, value, sequences = batch(lengths, one_by_one, HEADS)
    wanted = by_definition(query, key, value, sequences.layout.rows, pattern)
    found = one_by_one(query.bfloat16(), key.bfloat16(), value.bfloat16(), sequences, pattern)
    torch.testing.assert_close(found.float(), wanted, atol=3e-2, rtol=3e-2)


def all_options(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    """What torch documents of `varlen_attn` where it has all options, computed the slow way."""
    assert cu_seq_k is cu_seq_q
    assert max_q == max_k == int(cu_seq_q.diff().max())
    assert enable_gqa == (query.shape[1] != key.shape[1])
    left, right = (len(query) if side < 0 else side for side in window_size)
    groups = query.shape[1] // key.shape[1]
    rows = torch.repeat_interleave(torch.arange(len(cu_seq_q) - 1), cu_seq_q.diff())
    away = torch.arange(len(rows))[:, None] - torch.arange(len(rows))
    seen = (rows[:, None] == rows) & (away <= left) & (away >= -right)
    products = torch.einsum("qhd,khd->hqk", query, key.repeat_interleave(groups, 1))
    weights = (products * (WIDTH**-0.5 if scale is None else scale)).masked_fill(~seen, float("-inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value.repeat_interleave(groups, 1))


def few_options(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    is_causal: bool,
) -> Tensor:
    """As in its first releases: no scale, no windows, as many keys as queries."""
    return all_options(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, window_size=(-1, 0 if is_causal else -1))


def at_once(function: Callable[..., Tensor]) -> AllAtOnce:
    """The kernel of a torch whose function is this one."""
    return AllAtOnce(function, frozenset(inspect.signature(function).parameters))


@settings(deadline=None, max_examples=50)
@given(LENGTHS, PATTERNS, st.sampled_from([4, 2, 1]))
def test_all_at_once_asks_the_kernel_for_the_same(lengths: list[int], pattern: Pattern, kept_heads: int) -> None:
    """A window of `w` is `w - 1` neighbours on a side, none after itself where causal; heads and scale as they are."""
    query, key, value, sequences = batch(lengths, one_by_one, kept_heads)
    wanted = one_by_one(query, key, value, sequences, pattern)
    torch.testing.assert_close(
        at_once(all_options)(query, key, value, sequences, pattern), wanted, atol=1e-5, rtol=1e-4
    )


@settings(deadline=None, max_examples=50)
@given(LENGTHS, st.builds(Pattern, causal=st.booleans(), window=st.none(), scale=st.floats(0.1, 1)))
def test_what_an_older_kernel_lacks_is_made_up_for(lengths: list[int], pattern: Pattern) -> None:
    """Its scale by scaling queries, its shared keys by repeating them."""
    query, key, value, sequences = batch(lengths, one_by_one, 2)
    wanted = one_by_one(query, key, value, sequences, pattern)
    torch.testing.assert_close(
        at_once(few_options)(query, key, value, sequences, pattern), wanted, atol=1e-5, rtol=1e-4
    )


def test_a_kernel_without_windows_says_so() -> None:
    """Rather than let a token see more than its model was trained with."""
    query, key, value, sequences = batch([9], one_by_one)
    with pytest.raises(AttentionUnsupported, match="windows"):
        at_once(few_options)(query, key, value, sequences, Pattern(causal=False, window=4, scale=None))


def test_what_a_model_adds_to_attention_is_not_passed_over() -> None:
    """A bias, a cap or a sink that no kernel here knows is an error, not another vector."""
    query, key, value, sequences = batch([3], one_by_one)
    call = partial(attend, nn.Identity(), query, key, value)
    with pytest.raises(AttentionUnsupported, match="position_bias"):
        call(None, sequences=sequences, position_bias=torch.ones(1))
    with pytest.raises(AttentionUnsupported, match="softcap"):
        call(None, sequences=sequences, softcap=50.0)
    with pytest.raises(AttentionUnsupported, match="s_aux"):
        call(None, sequences=sequences, s_aux=torch.ones(1))
    with pytest.raises(AttentionUnsupported, match="mask"):
        call(torch.ones(1), sequences=sequences)


def test_a_window_is_masked_once_a_pass() -> None:
    """All layers share the masks, and lengths that differ share those of their inner blocks."""
    query, key, value, sequences = batch([700, 640], one_by_one)
    pattern = Pattern(causal=False, window=65, scale=None)
    one_by_one(query, key, value, sequences, pattern)
    made = dict(sequences.masks)
    one_by_one(query, key, value, sequences, pattern)
    assert sequences.masks == made
    assert len(made) <= 6


def test_the_kernel_of_a_cpu_takes_every_dtype() -> None:
    """Nothing there is faster than a call for each sequence."""
    assert choose(torch.device("cpu"), torch.float32) is one_by_one
    assert choose(torch.device("cpu"), torch.bfloat16) is one_by_one


@pytest.mark.parametrize(
    ("device", "dtype", "says"),
    [
        ("mps", torch.float16, "mps"),
        ("cuda", torch.float32, "16 bits, not torch.float32"),
        ("xpu", torch.bfloat16, "xpu"),
    ],
)
def test_where_padding_is_faster_there_is_no_kernel(device: str, dtype: torch.dtype, says: str) -> None:
    """Elsewhere a call for each sequence of each layer would cost more than padding, and the reason is named."""
    found = choose(torch.device(device), dtype)
    assert isinstance(found, Unpackable)
    assert says in found.reason
