"""Is what is decoded what was encoded?"""

from __future__ import annotations

from typing import Literal

import pytest
from embedmq_schemas import (
    Embed,
    Embedded,
    Failed,
    Failure,
    Request,
    Result,
    Score,
    Scored,
    Sparse,
    StreamReply,
    Tensor,
    Timing,
    TopicReply,
    decode_request,
    decode_result,
    encode_request,
    encode_result,
    join_results,
    split_results,
)
from hypothesis import given
from hypothesis import strategies as st

TEXTS = st.text(max_size=30)
WHOLES = st.integers(-(2**63), 2**63 - 1)
NATURALS = st.integers(0, 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ADDRESS = {
    "id": st.none() | TEXTS,
    "model": st.none() | TEXTS,
    "reply": st.none()
    | st.builds(TopicReply, TEXTS, st.none() | NATURALS, st.none() | TEXTS)
    | st.builds(StreamReply, TEXTS),
    "keep_s": st.none() | NATURALS,
    "deadline_unix_ms": st.none() | WHOLES,
    "tenant": st.none() | TEXTS,
    "meta": st.none() | st.dictionaries(TEXTS, TEXTS, max_size=3),
    "item_ids": st.none() | st.lists(TEXTS, max_size=3),
    "truncate": st.none() | st.booleans(),
}
REQUESTS: st.SearchStrategy[Request] = st.builds(
    Embed,
    items=st.lists(TEXTS | st.lists(WHOLES, max_size=4), max_size=4),
    outputs=st.none() | st.lists(TEXTS, max_size=2),
    dimensions=st.none() | WHOLES,
    normalize=st.none() | st.booleans(),
    dtype=st.none() | TEXTS,
    **ADDRESS,
) | st.builds(Score, query=TEXTS, documents=st.lists(TEXTS, max_size=4), top_n=st.none() | WHOLES, **ADDRESS)

TENSORS = st.builds(
    Tensor,
    st.sampled_from(["float32", "int8"]),
    st.tuples(NATURALS, NATURALS),
    st.binary(max_size=16).map(lambda data: memoryview(data))  # noqa: PLW0108 -- mypy wants the type of data
    | st.lists(st.lists(st.none() | FLOATS, max_size=3), max_size=3),
    st.none() | st.lists(FLOATS, max_size=3),
)
COUNTS = st.lists(NATURALS, max_size=3)
OUTCOME = {
    "failures": st.lists(st.builds(Failure, NATURALS, TEXTS, TEXTS), max_size=2),
    "tokens": COUNTS,
    "truncated": COUNTS,
    "meta": ADDRESS["meta"],
    "item_ids": ADDRESS["item_ids"],
    "timing": st.builds(Timing, FLOATS, FLOATS, FLOATS),
}
RESULTS: st.SearchStrategy[Result] = (
    st.builds(
        Embedded,
        id=TEXTS,
        count=NATURALS,
        dense=st.none() | TENSORS,
        sparse=st.none() | st.lists(st.builds(Sparse, COUNTS, st.lists(FLOATS, max_size=3)), max_size=2),
        multivector=st.none() | st.lists(TENSORS, max_size=2),
        **OUTCOME,
    )
    | st.builds(Scored, id=TEXTS, scores=st.lists(st.none() | FLOATS, max_size=3), ranking=COUNTS, **OUTCOME)
    | st.builds(Failed, id=TEXTS, code=TEXTS, message=TEXTS, fits=st.none() | NATURALS, meta=ADDRESS["meta"])
)

both = pytest.mark.parametrize("codec", ["json", "msgpack"])


@both
@given(request_=REQUESTS)
def test_every_request_comes_back_as_it_was_sent(codec: Literal["json", "msgpack"], request_: Request) -> None:
    """Whatever texts, numbers and options it has."""
    assert decode_request(encode_request(request_, codec), codec) == request_


@both
@given(result=RESULTS)
def test_every_result_comes_back_as_it_was_sent(codec: Literal["json", "msgpack"], result: Result) -> None:
    """Whatever texts, numbers and blocks it has."""
    assert decode_result(encode_result(result, codec)) == result


@given(results=st.lists(RESULTS, max_size=20))
def test_every_entry_of_a_reply_stream_comes_back_as_it_was_joined(results: list[Result]) -> None:
    """In the same order."""
    assert split_results(join_results([encode_result(result) for result in results])) == results
