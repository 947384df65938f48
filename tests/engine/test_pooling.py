"""Pooling without padding is that of sentence-transformers with it, and asks the device for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
import torch
from embedmq_worker.engine.late import TokenMask
from embedmq_worker.engine.pooling import MODES, pool
from embedmq_worker.engine.rows import Layout
from embedmq_worker.engine.sparse import splade
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.sentence_transformer.modules.pooling import PoolingMode
from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import pad_sequence

WIDTH = 6


def layout(lengths: Sequence[int], skips: Sequence[int] | None = None, device: str = "cpu") -> Layout:
    """A batch of these lengths; every token is another word."""
    ends = torch.tensor([0, *lengths]).cumsum(0)
    total = sum(lengths)
    rows = torch.repeat_interleave(torch.tensor(lengths), output_size=total)
    positions = torch.arange(total) - ends[rows]
    numbers = (torch.arange(total), positions, rows, ends)
    ids, positions, rows, starts = (number.to(torch.int32).to(device) for number in numbers)
    skipped = None if skips is None else torch.tensor(skips, dtype=torch.int32).to(device)
    return Layout(ids, positions, rows, starts, tuple(lengths), skips=skipped)


def padded(values: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The same with padding, and its mask."""
    mask = pad_sequence([torch.ones(length, dtype=torch.long) for length in lengths], batch_first=True)
    return pad_sequence(list(torch.split(values, list(lengths))), batch_first=True, padding_value=9.0), mask


def reference(values: Tensor, lengths: Sequence[int], modes: Sequence[str], skip: int) -> Tensor:
    hidden, mask = padded(values, lengths)
    module = Pooling(WIDTH, cast("tuple[PoolingMode, ...]", tuple(modes)), include_prompt=not skip)
    features = {"token_embeddings": hidden, "attention_mask": mask, "prompt_length": skip}
    pooled: Tensor = module(features)["sentence_embedding"]
    return pooled


batches = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(batches, st.lists(st.sampled_from(sorted(MODES)), min_size=1, max_size=3), st.integers(0, 4))
def test_every_mode_is_that_of_sentence_transformers(lengths: list[int], modes: list[str], skip: int) -> None:
    """Alone or several side by side, with a prompt that is not pooled, also where a text is nothing else."""
    values = torch.randn(sum(lengths), WIDTH, generator=torch.Generator().manual_seed(sum(lengths)))
    found = pool(values, layout(lengths, [skip] * len(lengths) if skip else None), modes)
    torch.testing.assert_close(found, reference(values, lengths, modes, skip), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_prompts_of_several_lengths_share_a_batch(mode: str) -> None:
    """Each row leaves out its own: requests with other prompts, or none, do not split a batch."""
    lengths, skips = [5, 7, 4], [2, 0, 3]
    values = torch.randn(sum(lengths), WIDTH)
    parts = zip(torch.split(values, lengths), lengths, skips, strict=True)
    wanted = torch.cat([reference(own, [length], [mode], skip) for own, length, skip in parts])
    torch.testing.assert_close(pool(values, layout(lengths, skips), [mode]), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["mean", "weightedmean"])
def test_sums_are_taken_in_float32(mode: str) -> None:
    """Of thousands of tokens in bfloat16, none is lost in a sum that has grown too large for it."""
    values = torch.full((5_000, 1), 0.1, dtype=torch.bfloat16)
    assert pool(values, layout([5_000]), [mode]).item() == pytest.approx(float(values[0, 0]), rel=1e-5)


@given(batches, st.sampled_from(["max", "sum"]), st.sampled_from(["relu", "log1p_relu"]))
def test_words_weigh_what_they_weigh_in_sentence_transformers(
    lengths: list[int], strategy: str, activation: str
) -> None:
    """Though the logarithms are taken last where that comes to the same."""
    logits = torch.randn(sum(lengths), WIDTH, generator=torch.Generator().manual_seed(sum(lengths))) * 3
    module = SpladePooling(strategy, activation)  # type: ignore[arg-type]  # its names are literals
    hidden, mask = padded(logits, lengths)
    wanted = module.eval()({"token_embeddings": hidden.clone(), "attention_mask": mask})["sentence_embedding"]
    before = logits.clone()
    torch.testing.assert_close(splade(logits, layout(lengths), module), wanted, rtol=1e-6, atol=1e-6)
    assert torch.equal(logits, before)


def test_sums_of_a_large_vocabulary_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a bounded size, side by side again in the end."""
    logits, batch, module = torch.randn(6, 100), layout([2, 4]), SpladePooling("sum")
    whole = splade(logits, batch, module)
    monkeypatch.setattr("embedmq_worker.engine.sparse.CHUNK_BYTES", 4 * 6 * 7)
    torch.testing.assert_close(splade(logits, batch, module), whole)


@pytest.mark.parametrize("skips", [None, [1, 0]])
def test_nothing_waits_for_the_device(skips: list[int] | None) -> None:
    """On a device whose numbers nobody can read: whoever asks for one, or for a shape that depends on one, fails."""
    with FakeTensorMode():
        batch = layout([3, 5], skips, "cuda")
        values = torch.empty(8, WIDTH, dtype=torch.bfloat16, device="cuda")
        assert pool(values, batch, sorted(MODES)).shape == (2, WIDTH * len(MODES))
        for strategy in ("max", "sum"):
            assert splade(values, batch, SpladePooling(strategy)).device.type == "cuda"


def test_a_models_rule_for_tokens_is_looked_up() -> None:
    """One answer a token; none at all where every token counts."""
    ids = layout([3, 5]).ids
    counts = TokenMask(MultiVectorMask(keep_only_token_ids=[1, 2]), 10, torch.device("cpu"))(ids)
    assert counts is not None
    assert counts.tolist() == [False, True, True, *[False] * 5]
    assert TokenMask(MultiVectorMask(), 10, torch.device("cpu"))(ids) is None
