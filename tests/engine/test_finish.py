"""A model's vector becomes the one that was asked for: sliced, normalised, cast, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
import torch
from embedmq_schemas.vectors import Array, Dtype
from embedmq_worker.engine.finish import finish
from embedmq_worker.engine.rows import Raw
from embedmq_worker.engine.seam import Block, Encoded, Fault, Options, Prepared, Slice
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sentence_transformers.util.quantization import quantize_embeddings
from torch._subclasses.fake_tensor import FakeTensorMode

Floats = NDArray[np.float32]

DTYPES: tuple[Dtype, ...] = get_args(Dtype)
FAULT = Fault("malformed", "no tokens")

blocks = arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 40)),
    elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False),
)


def request(options: Options, tokens: Sequence[int], start: int = 0, stop: int | None = None) -> Slice:
    """A request whose items of no tokens failed, and the part of it that is in the batch."""
    faults = {i: FAULT for i, count in enumerate(tokens) if not count}
    return Slice(Prepared(list(tokens), None, [], faults), options, start, len(tokens) if stop is None else stop)


def finished(raw: Raw, batch: Sequence[Slice], *normalizes: str) -> list[Encoded]:
    return finish(raw, batch, frozenset(normalizes)).to_host().collect()


def dense(vectors: Floats, options: Options, *, normalizes: bool = False) -> Block:
    """Of one request, one row an item; a row of NaN is one that failed."""
    tokens = [0 if np.isnan(row).all() else 1 for row in vectors]
    raw = Raw(dense=torch.from_numpy(vectors[np.flatnonzero(tokens)]))
    (encoded,) = finished(raw, [request(options, tokens)], *(["dense"] if normalizes else []))
    assert encoded.dense is not None
    return encoded.dense


@given(blocks)
def test_int8_and_its_scales_give_back_every_number_within_one_step(vectors: Floats) -> None:
    """Symmetric per row: the largest magnitude is 127, and the error at most half a step of it."""
    block = dense(vectors, Options(dtype="int8"))
    assert block.scales is not None
    assert (block.data.dtype.name, block.scales.dtype.name) == ("int8", "float32")
    largest = np.abs(vectors.astype(np.float64)).max(axis=1, keepdims=True)
    back = block.data.astype(np.float64) * block.scales[:, None]
    assert (np.abs(back - vectors) <= np.maximum(largest, 1e-12) / 127).all()
    assert (np.abs(block.data).max(axis=1)[largest[:, 0] > 1e-9] == 127).all()
    assert block.data.min() >= -127


@given(blocks)
def test_ubinary_is_what_sentence_transformers_packs(vectors: Floats) -> None:
    """Eight dimensions a byte, the first in the highest bit, 1 where the number is above zero."""
    packed = dense(vectors, Options(dtype="ubinary")).data
    np.testing.assert_array_equal(packed, np.packbits(vectors > 0, axis=1))
    np.testing.assert_array_equal(packed, quantize_embeddings(vectors, precision="ubinary"))


def test_slicing_comes_before_normalising() -> None:
    """So that a shortened vector has length one again."""
    vectors = np.array([[3.0, 4.0, 100.0]], np.float32)
    np.testing.assert_allclose(dense(vectors, Options(dimensions=2, normalize=True)).data, [[0.6, 0.8]])
    np.testing.assert_allclose(dense(vectors, Options(dimensions=2), normalizes=True).data, [[0.6, 0.8]])


@pytest.mark.parametrize(
    ("normalizes", "wished", "length"), [(True, None, 1), (False, None, 5), (True, False, 5), (False, True, 1)]
)
def test_normalising_is_the_models_habit_unless_the_request_says_otherwise(
    normalizes: bool, wished: bool | None, length: float
) -> None:
    """`null` means "not given"."""
    found = dense(np.array([[3.0, 4.0]], np.float32), Options(normalize=wished), normalizes=normalizes)
    assert np.linalg.norm(found.data[0]) == pytest.approx(length)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_failed_row_is_void_and_its_neighbour_is_not(dtype: Dtype) -> None:
    """NaN in floats, zero in integers and their scales, without a warning."""
    vectors = np.array([[np.nan] * 8, [1.0] * 8], np.float32)
    block = dense(vectors, Options(dtype=dtype, normalize=True))
    failed, good = block.data
    assert np.isnan(failed).all() if dtype.startswith("float") else not failed.any()
    assert np.isfinite(good).all()
    assert good.any()
    assert block.scales is None or (block.scales[0] == 0 and block.scales[1] > 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_that_are_none_are_void_in_integers_too(dtype: Dtype) -> None:
    """A model that overflows gives NaN in some dimension; that row has no integer, and its neighbour has."""
    rows = torch.tensor([[torch.nan, torch.nan], [1.0, -1.0]])
    (encoded,) = finished(Raw(dense=rows), [request(Options(dtype=dtype), [1, 1])])
    assert encoded.dense is not None
    broken, good = encoded.dense.data
    assert np.isnan(broken).all() if dtype.startswith("float") else not broken.any()
    assert good.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output", ["dense", "sparse", "multivector", "scores"])
def test_an_item_that_the_model_overflows_on_is_named_and_no_other(output: str, dtype: Dtype) -> None:
    """Also in integers, which would hide it; a number that only float16 cannot hold is the request's own wish."""
    good, broken = torch.tensor([1e6, 1.0]), torch.tensor([torch.inf, 1.0])
    rows = {
        "dense": Raw(dense=torch.stack([good, broken, good])),
        "sparse": Raw(sparse=torch.stack([good, broken, good])),
        "multivector": Raw(tokens=torch.stack([good, good, good, broken, good])),
        "scores": Raw(scores=torch.tensor([1.0, torch.nan, 1.0])),
    }
    wish = Options((output,), dtype=dtype)
    batch = [request(wish, [2, 0, 2]), request(wish, [1])]
    finished(rows[output], batch)
    found = [{item: fault.code for item, fault in part.prepared.faults.items()} for part in batch]
    assert found == [{1: "malformed", 2: "processing_failed"}, {}]


def test_a_vector_of_zeros_stays_one() -> None:
    """There is no direction to give it."""
    assert not dense(np.zeros((1, 4), np.float32), Options(normalize=True)).data.any()


def test_numbers_beyond_half_precision_become_infinite_without_a_warning() -> None:
    """A vector that is not normalised may hold them; a warning would be a line that is no JSON."""
    assert np.isinf(dense(np.array([[1e6, 1.0]], np.float32), Options(dtype="float16")).data[0, 0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_returned_holds_no_more_than_itself(dtype: Dtype) -> None:
    """A slice of a batch must not keep the whole batch alive."""
    wish = Options(("dense", "multivector"), dimensions=4, dtype=dtype)
    raw = Raw(dense=torch.ones(1_000, 8), tokens=torch.ones(1_000, 8), scores=torch.ones(1_000))
    first, *_ = finished(raw, [request(wish, [1]), request(wish, [1] * 999)])
    assert first.dense is not None
    assert first.multivector is not None
    assert first.scores is not None
    blocks = [first.dense, *first.multivector]
    for array in (*(block.data for block in blocks), *(block.scales for block in blocks), first.scores):
        assert array is None or (array.flags.owndata and array.flags.c_contiguous and len(array) == 1)


options = st.builds(
    Options,
    outputs=st.sampled_from([("dense",), ("multivector",), ("sparse",), ("dense", "sparse", "multivector")]),
    dimensions=st.sampled_from([None, 1, 5, 12]),
    dtype=st.sampled_from(DTYPES),
    normalize=st.sampled_from([None, True, False]),
)


@st.composite
def batches(draw: st.DrawFn) -> list[Slice]:
    """Requests of some items, some failed, of which some part is in the batch."""
    batch: list[Slice] = []
    for _ in range(draw(st.integers(1, 6))):
        tokens = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
        start = draw(st.integers(0, len(tokens) - 1))
        batch.append(request(draw(options), tokens, start, draw(st.integers(start + 1, len(tokens)))))
    return batch


@given(batches(), st.booleans())
def test_what_a_request_gets_is_the_same_alone_and_among_requests_that_want_something_else(
    batch: list[Slice], masked: bool
) -> None:
    """No option splits a batch, and none of a neighbour's shows; each item keeps its place."""
    lengths = [part.prepared.tokens[i] for part in batch for i in range(part.start, part.stop)]
    lengths = [length for length in lengths if length]
    draw = torch.Generator().manual_seed(len(lengths))
    sequences, tokens = torch.randn(len(lengths), 12, generator=draw), torch.randn(sum(lengths), 12, generator=draw)
    sparse, kept = sequences.relu(), torch.rand(sum(lengths), generator=draw) > 0.3 if masked else None
    together = finished(Raw(sequences, sparse, tokens, kept), batch, "dense", "multivector")
    row, token = 0, 0
    for part, found in zip(batch, together, strict=True):
        good = [i for i in range(part.start, part.stop) if part.prepared.tokens[i]]
        count = sum(part.prepared.tokens[i] for i in good)
        rows, places = slice(row, row + len(good)), slice(token, token + count)
        raw = Raw(sequences[rows], sparse[rows], tokens[places], None if kept is None else kept[places])
        (alone,) = finished(raw, [part], "dense", "multivector")
        same(found, alone)
        sized(found, part)
        row, token = row + len(good), token + count


def same(found: Encoded, wanted: Encoded) -> None:
    for one, other in zip(_arrays(found), _arrays(wanted), strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.sparse == wanted.sparse


def sized(found: Encoded, part: Slice) -> None:
    """What was asked for is there, an entry an item; nothing else is."""
    count = part.stop - part.start
    given_outputs = {"dense": found.dense, "sparse": found.sparse, "multivector": found.multivector}
    assert {name for name, value in given_outputs.items() if value is not None} == set(part.options.outputs)
    assert found.dense is None or len(found.dense.data) == count
    assert found.sparse is None or len(found.sparse) == count
    assert found.multivector is None or len(found.multivector) == count


def _arrays(encoded: Encoded) -> list[Array]:
    blocks = [*([encoded.dense] if encoded.dense is not None else []), *(encoded.multivector or [])]
    return [array for block in blocks for array in (block.data, block.scales) if array is not None]


def test_sparse_vectors_are_their_words_ascending_and_empty_where_an_item_failed() -> None:
    """Whatever else a request wants: there is no width to cut and no length to change."""
    rows = torch.tensor([[0.0, 2.0, 0.5], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    wish = Options(("sparse",), dimensions=1, dtype="int8", normalize=True)
    first, second = finished(Raw(sparse=rows), [request(wish, [1, 0, 1]), request(wish, [1])])
    assert first.sparse is not None
    assert second.sparse is not None
    assert [(sparse.indices, sparse.values) for sparse in first.sparse] == [([1, 2], [2.0, 0.5]), ([], []), ([], [])]
    assert [(sparse.indices, sparse.values) for sparse in second.sparse] == [([0], [1.0])]


def test_only_tokens_that_count_have_vectors_and_a_failed_item_has_none() -> None:
    """Late interaction: of the tokens of each item, those that the model's mask keeps, in order."""
    raw = Raw(tokens=torch.arange(10.0).view(5, 2), kept=torch.tensor([True, False, True, False, True]))
    (found,) = finished(raw, [request(Options(("multivector",)), [2, 0, 3])])
    assert found.multivector is not None
    assert [block.data.tolist() for block in found.multivector] == [[[0, 1]], [], [[4, 5], [8, 9]]]
    assert [block.data.shape[1] for block in found.multivector] == [2, 2, 2]


def test_scores_keep_their_places_and_a_failed_pair_has_none() -> None:
    """NaN, which no ranking takes for a number."""
    raw = Raw(scores=torch.tensor([0.5, 0.25, 1.0]))
    first, second = finished(raw, [request(Options(), [3, 0, 3]), request(Options(), [0, 1], 1)])
    assert first.scores is not None
    assert second.scores is not None
    np.testing.assert_array_equal(first.scores, np.array([0.5, np.nan, 0.25], np.float32))
    np.testing.assert_array_equal(second.scores, [1.0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_finishing_does_not_wait_for_the_device(dtype: Dtype) -> None:
    """On a device whose numbers nobody can read: whoever asks for one, or for a shape that depends on one, fails."""
    wishes = [
        Options(("dense", "multivector"), dimensions=5, dtype=dtype, normalize=normalize) for normalize in (True, False)
    ]
    with FakeTensorMode():
        kept = torch.empty(4, dtype=torch.bool, device="cuda")
        raw = Raw(torch.empty(2, 12, device="cuda"), tokens=torch.empty(4, 12, device="cuda"), kept=kept)
        found = finish(raw, [request(wish, [2]) for wish in wishes], frozenset())
        assert {styled.data.device.type for styled in (*found.dense, *found.multivector)} == {"cuda"}
