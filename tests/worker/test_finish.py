"""A model's vector becomes the one that was asked for: sliced, normalised, cast, in this order."""

from __future__ import annotations

import numpy as np
import pytest
from embedmq_worker.engine.finish import finish
from embedmq_worker.engine.seam import Options
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sentence_transformers.util.quantization import quantize_embeddings

Floats = NDArray[np.float32]

blocks = arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 40)),
    elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False),
)


def dense(vectors: Floats, options: Options, *, normalizes: bool = False) -> NDArray[np.number]:
    found = finish(vectors, options, normalizes).dense
    assert found is not None
    return found.data


@given(blocks)
def test_int8_and_its_scales_give_back_every_number_within_one_step(vectors: Floats) -> None:
    """Symmetric per row: the largest magnitude is 127, and the error at most half a step of it."""
    block = finish(vectors, Options(dtype="int8"), normalizes=False).dense
    assert block is not None
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
    packed = dense(vectors, Options(dtype="ubinary"))
    np.testing.assert_array_equal(packed, np.packbits(vectors > 0, axis=1))
    np.testing.assert_array_equal(packed, quantize_embeddings(vectors, precision="ubinary"))


def test_slicing_comes_before_normalising() -> None:
    """So that a shortened vector has length one again."""
    vectors = np.array([[3.0, 4.0, 100.0]], np.float32)
    np.testing.assert_allclose(dense(vectors, Options(dimensions=2, normalize=True)), [[0.6, 0.8]])
    np.testing.assert_allclose(dense(vectors, Options(dimensions=2), normalizes=True), [[0.6, 0.8]])


@pytest.mark.parametrize(
    ("normalizes", "wished", "length"), [(True, None, 1), (False, None, 5), (True, False, 5), (False, True, 1)]
)
def test_normalising_is_the_models_habit_unless_the_request_says_otherwise(
    normalizes: bool, wished: bool | None, length: float
) -> None:
    """`null` means "not given"."""
    found = dense(np.array([[3.0, 4.0]], np.float32), Options(normalize=wished), normalizes=normalizes)
    assert np.linalg.norm(found[0]) == pytest.approx(length)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "ubinary"])
def test_a_failed_row_is_void_and_its_neighbour_is_not(dtype: str) -> None:
    """NaN in floats, zero in integers, without a warning."""
    vectors = np.array([[np.nan] * 8, [1.0] * 8], np.float32)
    options = Options(dtype=dtype, normalize=True)  # type: ignore[arg-type]  # one of the four
    failed, good = dense(vectors, options)
    assert np.isnan(failed).all() if dtype.startswith("float") else not failed.any()
    assert np.isfinite(good).all()
    assert good.any()


def test_a_vector_of_zeros_stays_one() -> None:
    """There is no direction to give it."""
    assert not dense(np.zeros((1, 4), np.float32), Options(normalize=True)).any()


def test_numbers_beyond_half_precision_become_infinite_without_a_warning() -> None:
    """A vector that is not normalised may hold them; a warning would be a line that is no JSON."""
    assert np.isinf(dense(np.array([[1e6, 1.0]], np.float32), Options(dtype="float16"))[0, 0])


def test_what_is_returned_holds_no_more_than_itself() -> None:
    """A slice of a batch must not keep the whole batch alive."""
    batch = np.ones((1_000, 8), np.float32)
    found = dense(batch[:1], Options(dimensions=4))
    assert found.flags.c_contiguous
    assert found.base is None
