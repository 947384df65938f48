"""`traceparent` and `tracestate` are read and written as W3C has them."""

from __future__ import annotations

import pytest
from embedmq_schemas.headers import TRACEPARENT, TRACESTATE
from embedmq_schemas.trace_context import TraceContext, read, write
from hypothesis import given
from hypothesis import strategies as st

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
GOOD = b"00-" + TRACE + b"-" + SPAN + b"-01"


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_what_is_written_is_read(trace_id: int, span_id: int, flags: int) -> None:
    """Ids keep their leading zeros and flags are passed on as they are."""
    context = TraceContext(trace_id, span_id, flags, "a=1,b=2")
    headers = write(context)
    assert read(headers) == context
    assert len(dict(headers)[TRACEPARENT]) == 55


@given(st.binary(max_size=80))
def test_no_bytes_break_the_reading(value: bytes) -> None:
    """A header may hold anything: what is no context counts as none."""
    found = read([(TRACEPARENT, value), (TRACESTATE, value)])
    assert found is None or (found.trace_id and found.span_id)


@pytest.mark.parametrize(
    "value",
    [
        GOOD.upper(),
        GOOD[:-1],
        GOOD + b"-more",
        b"ff" + GOOD[2:],
        GOOD.replace(TRACE, b"0" * 32),
        GOOD.replace(SPAN, b"0" * 16),
        GOOD.replace(b"-", b"_"),
    ],
)
def test_a_context_that_breaks_the_rules_is_none(value: bytes) -> None:
    """So that a trace is never continued under ids that nobody has."""
    assert read([(TRACEPARENT, value)]) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """The specification lets later versions add to the end only."""
    assert read([(TRACEPARENT, b"01" + GOOD[2:] + b"-more")]) == read([(TRACEPARENT, GOOD)])


def test_of_several_the_last_counts_and_a_null_is_none() -> None:
    """As Kafka's own `lastHeader` does it."""
    other = GOOD.replace(SPAN, b"1" * 16)
    found = read([(TRACEPARENT, GOOD), (TRACEPARENT, other), (TRACEPARENT, None)])
    assert found is not None
    assert found.span_id == int("1" * 16, 16)
    assert read([(TRACESTATE, b"a=1")]) is None
