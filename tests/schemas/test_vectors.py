"""Do blocks of numbers become arrays without a copy, and without trusting what they say about themselves?"""

from __future__ import annotations

import tracemalloc
from typing import Literal

import numpy as np
import pytest
from embedmq_schemas import Embedded, Tensor, decode_result, encode_result, join_results, split_results
from embedmq_schemas.results import Result
from embedmq_schemas.vectors import TensorMismatch, row_bytes, to_array, to_rows

NAN = float("nan")


def tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.number]]) -> Tensor:
    rows, width = array.shape
    name = {"uint8": "ubinary"}.get(array.dtype.name, array.dtype.name)
    return Tensor(name, (rows, width), memoryview(array.tobytes()))


def dense(result: Result) -> Tensor:
    assert isinstance(result, Embedded)
    assert result.dense is not None
    return result.dense


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "i1", "u1"])
@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_every_dtype_survives_the_wire_bit_by_bit(dtype: str, codec: Literal["json", "msgpack"]) -> None:
    """float32, float16, int8 and packed bits come back as they were, in both codecs."""
    array = np.arange(-6, 6).astype(dtype).reshape(3, 4)
    again = to_array(dense(decode_result(encode_result(Embedded(id="x", dense=tensor(array)), codec))))
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)


def test_an_array_is_a_read_only_view_of_the_bytes_that_came_from_the_network() -> None:
    """One result or an entry of many: no vector is copied on its way to the caller."""
    encoded = encode_result(Embedded(id="x", dense=tensor(np.ones((64, 384), "<f4"))))
    entry = join_results([encoded, encoded])
    for source, result in [(encoded, decode_result(encoded)), (entry, split_results(entry)[1])]:
        array = to_array(dense(result))
        assert np.shares_memory(array, np.frombuffer(source, "u1"))
        assert not array.flags.writeable


@pytest.mark.parametrize(
    "lie",
    [
        Tensor("float32", (2**40, 2**20), memoryview(b"1234")),
        Tensor("float32", (1, 2), memoryview(b"1234")),
        Tensor("float32", (-1, -1), memoryview(b"1234")),
        Tensor("float32", (-1, 4), memoryview(b"")),
        Tensor("float32", (2**70, 0), memoryview(b"")),
        Tensor("float32", (2**40, 0), memoryview(b"")),
        Tensor("float32", (0, 2**70), memoryview(b"")),
        Tensor("float64", (1, 1), memoryview(b"12345678")),
        Tensor("float32", (2**40, 1), [[1.0]]),
        Tensor("float32", (1, 2), [[1.0]]),
        Tensor("float32", (2, 2), [[1.0, 2.0], [1.0]]),
        Tensor("float32", (0, 2**70), []),
        Tensor("int8", (1, 1), [[300]]),
        Tensor("int8", (1, 1), [[float("inf")]]),
        Tensor("ubinary", (1, 1), [[-1]]),
        Tensor("float32", (1, 1), [[1e300]]),
        Tensor("float16", (1, 1), [[70_000.0]]),
    ],
    ids=lambda lie: f"{lie.dtype} {lie.shape}",
)
def test_a_tensor_that_lies_is_refused_before_anything_is_allocated(lie: Tensor) -> None:
    """Shape, dtype and data must fit each other; a shape alone never costs memory."""
    tracemalloc.start()
    try:
        with pytest.raises(TensorMismatch):
            to_array(lie)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


def test_no_rows_are_an_array_of_no_rows() -> None:
    """A text without tokens has a multivector of none."""
    assert to_array(Tensor("float32", (0, 128), memoryview(b""))).shape == (0, 128)
    assert to_array(Tensor("float32", (0, 128), [])).shape == (0, 128)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_nan_becomes_null_in_rows_and_null_nan_again(codec: Literal["json", "msgpack"]) -> None:
    """In either codec: readers that know no NaN see null, ours sees NaN."""
    rows = to_rows(np.array([[1, NAN], [np.inf, 2], [3, 4]], "<f4"), frozenset({2}))
    assert rows == [[1.0, None], [None, 2.0], [None, None]]
    encoded = encode_result(Embedded(id="x", dense=Tensor("float32", (3, 2), rows)), codec)
    again = to_array(dense(decode_result(encoded)))
    np.testing.assert_array_equal(again, np.array([[1, NAN], [NAN, 2], [NAN, NAN]], "<f4"))
    assert not again.flags.writeable


def test_a_failed_row_of_integers_is_zero() -> None:
    """Integer types have no NaN."""
    rows = to_rows(np.array([[1, 2], [3, 4]], "i1"), frozenset({1}))
    assert rows == [[1, 2], [None, None]]
    np.testing.assert_array_equal(to_array(Tensor("int8", (2, 2), rows)), np.array([[1, 2], [0, 0]], "i1"))


def test_int8_times_its_scale_is_the_float_again() -> None:
    """Symmetric per row: `scales` has one number a row."""
    floats = np.array([[0.5, -1.0], [2.0, 0.1]], "<f4")
    scales = np.abs(floats).max(axis=1) / 127
    block = tensor(np.round(floats / scales[:, None]).astype("i1"))
    sent = Embedded(id="x", dense=Tensor(block.dtype, block.shape, block.data, scales.tolist()))
    again = dense(decode_result(encode_result(sent)))
    assert again.scales is not None
    np.testing.assert_allclose(to_array(again) * np.array(again.scales)[:, None], floats, atol=0.01)


def test_ubinary_packs_eight_dimensions_a_byte_first_dimension_in_the_highest_bit() -> None:
    """As numpy and sentence-transformers pack them; the shape counts bytes."""
    bits = np.packbits(np.array([[1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0]]) > 0, axis=1)
    assert to_array(tensor(bits)).tolist() == [[0b10000001, 0b10000000]]


@pytest.mark.parametrize(("dtype", "size"), [("float32", 1536), ("float16", 768), ("int8", 384), ("ubinary", 48)])
def test_the_size_of_a_row_is_known_before_it_is_computed(dtype: str, size: int) -> None:
    """So that a reply that will not fit is refused before the device works for it."""
    assert row_bytes(dtype, 384) == size
    assert row_bytes("ubinary", 385) == 49


@pytest.mark.parametrize("count", [0, 1, 15, 16, 300])
def test_results_are_joined_into_one_array_and_split_again(count: int) -> None:
    """The entry of a reply stream, whatever the length of its array."""
    results = [Embedded(id=str(i)) for i in range(count)]
    assert split_results(join_results([encode_result(r) for r in results])) == results
