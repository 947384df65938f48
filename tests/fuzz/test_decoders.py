"""Whatever the bytes are: every decoder gives a value or the error that it documents, at a bounded price.

`make fuzz` tries millions of inputs; here are some hundreds a decoder, and every input that once broke one.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import mutate
from tests.fuzz.record import SEPARATOR, join, split
from tests.fuzz.seeds import PAST, WORDS
from tests.fuzz.targets import TARGETS, Target, check_memory

BY_NAME = {target.name: target for target in TARGETS}
WITH_TARGET = pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
SMALL, LARGE = 20_000, 160_000
MOST_GROWTH = 3.0
"""How much longer a byte of eight times as many may take: a linear reader needs 1, a quadratic one 8."""


def damaged(target: Target) -> st.SearchStrategy[bytes]:
    """Samples with other fields, cut, with bytes or words put in, and glued to each other; or any bytes."""
    sample = st.sampled_from(target.seeds)
    place = st.integers(0, 600)
    put_in = st.binary(max_size=4) | st.sampled_from(WORDS)
    return st.one_of(
        st.builds(mutate, sample, st.integers(0, 2**32)),
        st.builds(lambda data, at: data[:at], sample, place),
        st.builds(lambda data, at, new: data[:at] + new + data[at:], sample, place, put_in),
        st.builds(lambda data, at, new: data[:at] + new + data[at + len(new) :], sample, place, put_in),
        st.builds(lambda data, at, other: data[:at] + other[at:], sample, place, sample),
        st.binary(max_size=200),
    )


@WITH_TARGET
def test_any_bytes_are_a_value_or_the_documented_error(target: Target) -> None:
    """Nothing else is raised, and what is read keeps what is said of it."""

    @given(damaged(target))
    @settings(max_examples=200)
    def read(data: bytes) -> None:
        target.read(data)

    read()


@WITH_TARGET
def test_samples_are_taken(target: Target) -> None:
    """The fuzzer begins at messages that are read, or it would prove little."""
    assert sum(map(target.read, target.seeds)) > len(target.seeds) / 3


@pytest.mark.parametrize("n", range(50))
def test_a_record_is_one_string_of_bytes(n: int) -> None:
    """What is fuzzed as a record is the record that was meant."""
    value = mutate(BY_NAME["result"].seeds[1], n)
    record = split(join(value, "embedmq.retry.5m", b"minilm", PAST))
    assert (record.topic, record.key, record.value) == ("embedmq.retry.5m", b"minilm", value)
    assert record.headers == list(PAST)


SHAPES: dict[str, Callable[[int], bytes]] = {
    "one byte": lambda size: b"\xff" * size,
    "opened lists": lambda size: b"[" * size,
    "opened lists in a field": lambda size: b'{"items":' + b"[" * size,
    "opened objects": lambda size: b'{"meta":' * (size // 8),
    "empty lists": lambda size: b'{"items":[' + b"[]," * (size // 3) + b"[]]}",
    "one field again and again": lambda size: b'{"id":"a",' + b'"id":"a",' * (size // 9) + b'"type":"failed"}',
    "fields nobody knows": lambda size: b"{" + b",".join(b'"%d":[]' % n for n in range(size // 8)) + b"}",
    "a long text": lambda size: b'{"id":"' + b"a" * size + b'"}',
    "escapes": lambda size: b'{"id":"' + rb"\u00e4" * (size // 6) + b'"}',
    "half a surrogate pair": lambda size: rb'{"id":"\ud800","meta":{"a":"' + b"a" * size + b'"}}',
    "digits": lambda size: b'{"keep_s":' + b"9" * size + b"}",
    "spaces": lambda size: b'{"id":' + b" " * size + b"1}",
    "packed empty lists": lambda size: b"\xdd" + size.to_bytes(4, "big") + b"\x90" * size,
    "packed empty lists in a field": lambda size: b"\x81\xa5items\xdd" + size.to_bytes(4, "big") + b"\x90" * size,
    "packed nulls in a field nobody knows": lambda size: b"\x81\xa1x\xdd" + size.to_bytes(4, "big") + b"\xc0" * size,
    "opened packed lists": lambda size: b"\x91" * size,
    "packed maps": lambda size: b"\xdd" + size.to_bytes(4, "big") + b"\x81\xa1a\x90" * (size // 4),
    "separators": lambda size: b"\x03\x01\xff" + SEPARATOR * (size // 2),
    "a header": lambda size: join(b"", "embedmq.retry.10s", None, [("embedmq-attempt", b"1" * size)]),
}  # fmt: skip
LYING = [
    start + length + b"\xff\xff\xff\xff"
    for start in (b"", b"\x81\xa5items", b"\x81\xa1x", b"\x91", b"\x82\xa4type\xa8embedded\xa6tokens", b"\x81\xa4meta")
    for length in (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9")
]


@WITH_TARGET
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_memory_and_time_grow_no_faster_than_the_bytes(target: Target, shape: Callable[[int], bytes]) -> None:
    """Allocated: at most a multiple of what came. Time: eight times the bytes take eight times as long, not sixty."""
    frames = {"request": b"\x00", "salvage": b"\x00", "record": b"\x00\x00\x00" + SEPARATOR, "headers": b"\x00\x00\x00"}
    small, large = (
        frames.get(target.name, b"") + SEPARATOR * (target.name in frames) + shape(n) for n in (SMALL, LARGE)
    )
    check_memory(target, large)
    took_s = [min(_seconds(target, data) for _ in range(3)) / len(data) for data in (small, large)]
    assert took_s[1] <= MOST_GROWTH * took_s[0] + 5e-9


def _seconds(target: Target, data: bytes) -> float:
    gc.disable()  # its passes over everything there is are not the decoder's
    begun = time.process_time()
    try:
        target.read(data)
        return time.process_time() - begun
    finally:
        gc.enable()


@WITH_TARGET
def test_a_length_that_is_only_announced_is_not_allocated(target: Target) -> None:
    """Five bytes of MessagePack can promise four billion elements."""
    for data in LYING:
        for framed in (data, b"\x01" + SEPARATOR + data, join(data), SEPARATOR + data):
            check_memory(target, framed)


BROKE_ONCE: list[tuple[str, bytes]] = [
    ("stub", b'{"state":"\xff"}'),
    ("stub", b'{"x":' + b"[" * 100_000),
    ("model", b'{"name":"\xff"}'),
    ("model", b'{"x":' + b"[" * 100_000),
    ("worker", b'{"id":"\xff"}'),
    ("worker", b'{"x":' + b"[" * 100_000),
    ("record", join(b'{"items":["a"]}', "embedmq.retry.10s", None, [("embedmq-model", b"*")])),
]


@pytest.mark.parametrize(("name", "data"), BROKE_ONCE)
def test_what_broke_a_decoder_once_does_so_no_more(name: str, data: bytes) -> None:
    """Each was found by `make fuzz`, or by looking where it had not been."""
    check_memory(BY_NAME[name], data)
