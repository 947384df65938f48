"""A dtype is chosen by what it gains here, and a model's appetite for memory is known before its first batch."""

from __future__ import annotations

import pytest
import torch
from embedmq_worker.engine.compute import beats, candidates, full_batch_tokens, rate, token_bytes
from embedmq_worker.engine.null import NullEngine
from torch import nn


@pytest.mark.parametrize(("rate", "taken"), [(50.0, False), (100.0, False), (124.0, False), (126.0, True)])
def test_another_dtype_is_taken_only_where_it_is_clearly_faster(rate: float, taken: bool) -> None:
    """By a quarter: a measurement is hardly surer than that, and every change of mind changes vectors."""
    assert beats(rate, 100.0) is taken


def test_a_configured_dtype_is_the_only_one_tried() -> None:
    """And `auto` tries the one that loses nothing first on a CPU, bfloat16 on CUDA."""
    assert candidates("float16", torch.device("cpu")) == ("float16",)
    assert candidates("auto", torch.device("cpu")) == ("float32", "bfloat16")
    assert candidates("auto", torch.device("cuda:1")) == ("bfloat16", "float16", "float32")
    assert candidates("auto", torch.device("mps")) == ("float32",)


def test_the_largest_batch_is_what_fits_its_time_but_never_less_than_one_text() -> None:
    """Nor more than a batch's tokens."""
    assert full_batch_tokens(100_000, max_tokens=512) == 5_000
    assert full_batch_tokens(1_000, max_tokens=512) == 512
    assert full_batch_tokens(1e9, max_tokens=512) == 16_384


def test_a_model_that_takes_ten_milliseconds_a_batch_is_measured_as_such() -> None:
    """In tokens a second, whatever its batches are."""
    engine = NullEngine(8, batch_ms=10.0)
    slow, fast = rate(engine), rate(NullEngine(8))
    assert slow < 16_384 / 0.010
    assert fast > slow


def test_a_token_of_a_masked_language_model_takes_a_row_of_the_vocabulary() -> None:
    """Which is most of what a batch takes beside the weights."""
    encoder = nn.Sequential(nn.Linear(64, 256), nn.Linear(256, 64), nn.Linear(64, 64))
    masked = nn.Sequential(*encoder, nn.Linear(64, 30_000))
    assert token_bytes(encoder) == 4 * (8 * 64 + 2 * 256)
    assert token_bytes(masked) == 4 * (8 * 64 + 2 * 30_000)
    assert token_bytes(nn.Sequential(nn.EmbeddingBag(10, 4))) == 0
