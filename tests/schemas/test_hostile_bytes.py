"""Does every record give a request or a refusal, whatever its bytes are, and at a bounded price?"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec
import pytest
from embedmq_schemas import CODES, Embed, Undecodable, decode_request, decode_result, encode_result, split_results
from embedmq_schemas import headers as h
from embedmq_schemas.codec import Codec
from embedmq_schemas.envelope import Record, Refusal, open_record
from embedmq_schemas.names import Names, is_id, is_model_name
from embedmq_schemas.results import Embedded, Failed
from hypothesis import example, given
from hypothesis import strategies as st

from tests.schemas import golden


@contextmanager
def at_most(peak_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= peak_bytes
    finally:
        tracemalloc.stop()


def code_of(value: bytes, codec: Codec) -> str:
    with pytest.raises(Undecodable) as caught:
        decode_request(value, codec)
    return caught.value.code


@pytest.mark.parametrize(
    "value",
    [
        b"", b" ", b"{", b"}", b"[]", b"null", b"5", b'"a"', b"{}", b'{"items"}', b'{"items":["a"]',
        b'{"items":["a"]} x', b'{"items":["a"]}{}', b"\xef\xbb\xbf{}", b'{"items":["\xff"]}', b'{"\xff":1}',
        b'{"items":["\xed\xa0\x80"]}', rb'{"items":["\ud800"]}', rb'{"items":["\udc00"]}', rb'{"items":["\ud800a"]}',
        rb'{"items":["\ud800\ud800"]}', rb'{"\ud800":1}', rb'{"items":["\q"]}', b'{"items":["a\nb"]}',
        b'{"items":["a"],"keep_s":NaN}', b'{"items":["a"],"keep_s":1e999}', b'{"items":["a"],"keep_s":1.5}',
        b'{"items":["a"],"keep_s":' + b"9" * 10_000 + b"}", b'{"items":null}', b'{"items":[null]}',
        b'{"items":[[1.0]]}', b'{"items":[[true]]}', b'{"items":["a"],"meta":{"k":1}}',
        b'{"items":["a"],"normalize":1}',
    ],
)  # fmt: skip
def test_bytes_that_are_no_json_request_are_malformed(value: bytes) -> None:
    """Cut, broken, of the wrong type, not UTF-8, half a surrogate pair, numbers out of range."""
    assert code_of(value, "json") == "malformed"


@pytest.mark.parametrize(
    "value",
    [
        b"", b"\xc1", b"a cat", b"\xc0", b"\x90", b"\x80", b"\x81\xa5items", b"\x81\xa5items\x91\xa5a",
        b"\x81\xa5items\x91\xa1a\x00", b"\x81\xa5items\x91\xa1\xff", b"\x81\xa5items\x91\xc4\x01a",
        b"\x82\xa5items\x91\xa1a\x05\x01", b"\x82\xa5items\x91\xa1a\xa4meta\x81\xa1\xff\xa1a",
        b"\x82\xa5items\x91\xa1a\xa4type\x05", b"\x82\xa5items\x91\xa1a\xa6keep_s\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x82\xa5items\x91\xa1a\xa6keep_s\xd6\xff\x00\x00\x00\x00",
    ],
)  # fmt: skip
def test_bytes_that_are_no_messagepack_request_are_malformed(value: bytes) -> None:
    """Cut, broken, of the wrong type, not UTF-8, extension types, numbers out of range."""
    assert code_of(value, "msgpack") == "malformed"


@pytest.mark.parametrize(
    "value",
    [
        b"\x81\xa5items\xdd\xff\xff\xff\xff",
        b"\x82\xa4type\xa5embed\xa5items\xdd\xff\xff\xff\xff",
        b"\x81\xa5items\x91\xdd\xff\xff\xff\xff",
        b"\x81\xa5items\x91\xdb\xff\xff\xff\xff",
        b"\x81\xa8item_ids\xdd\xff\xff\xff\xff",
        b"\x81\xa4meta\xdf\xff\xff\xff\xff",
        b"\x81\xa1x\xdd\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
    ],
)
def test_a_length_that_is_only_announced_costs_no_memory(value: bytes) -> None:
    """MessagePack says how much follows; five bytes that promise four billion elements are refused as they are."""
    with at_most(64 * 1024):
        assert code_of(value, "msgpack") in {"malformed", "too_large"}
    with at_most(64 * 1024), pytest.raises(Undecodable):
        decode_result(value)


def test_an_entry_of_a_reply_stream_that_announces_too_much_costs_no_memory() -> None:
    """The same on the way back."""
    with at_most(64 * 1024), pytest.raises(Undecodable):
        split_results(b"\xdd\xff\xff\xff\xff")


@pytest.mark.parametrize("depth", [2_000, 100_000])
def test_deep_nesting_is_malformed_and_not_a_crash(depth: int) -> None:
    """In both codecs, in a known field and in an unknown one."""
    array = b"[" * depth + b"]" * depth
    assert code_of(b'{"items":' + array + b"}", "json") == "malformed"
    assert code_of(b"\x81\xa5items" + b"\x91" * depth + b"\xc0", "msgpack") == "malformed"
    assert code_of(b"\x82\xa5items\x91\xa1a\xa1x" + b"\x91" * depth + b"\xc0", "msgpack") in {
        "malformed",
        "unsupported",
    }


def test_deep_nesting_is_called_so() -> None:
    """Not by the name of an error of Python's."""
    with pytest.raises(Undecodable, match="nested too deeply"):
        decode_request(b'{"items":' + b"[" * 100_000, "json")


def test_of_a_repeated_field_the_last_one_counts() -> None:
    """As in every common JSON reader; in MessagePack just so."""
    assert decode_request(b'{"items":["a"],"items":["b"]}', "json") == Embed(items=["b"])
    assert decode_request(b"\x82\xa5items\x91\xa1a\xa5items\x91\xa1b", "msgpack") == Embed(items=["b"])


FIELDS = [*Embed.__struct_fields__, "type", "query", "documents", "top_n", "mistake"]
ODD: list[object] = [
    None, True, 0, -1, 7, 2**63 - 1, 0.5, "", "a", "x" * 200, "minilm", "embed", "score", "two words", [], ["a"], [[1]],
    [["a"]], {}, {"k": "v"}, {"k": 1}, {"type": "topic", "topic": "t"}, {"type": "topic", "topic": "t", "x": 1},
    {"type": "stream", "client": "c"}, {"type": "stream", "client": "not one"}, {"client": "c"}, {"topic": 5},
]  # fmt: skip
ODD_IN_JSON: list[object] = [2**63, -(10**30), float("nan"), float("inf"), "\ud800", ["\udc00"], {"\ud800": "\udfff"}]
SAMPLES = [golden.read(golden.NEWEST / f"{name}.msgpack.hex") for name in golden.REQUESTS]


def bodies(values: list[object]) -> st.SearchStrategy[dict[str, object]]:
    """Objects whose fields are ours, and whose values are mostly not."""
    return st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(values), max_size=8)


VALUES = st.one_of(
    st.none(),
    st.binary(max_size=200),
    bodies(ODD + ODD_IN_JSON).map(lambda body: json.dumps(body).encode()),
    bodies(ODD).map(msgspec.msgpack.encode),
    st.builds(
        lambda value, cut: value[:cut] + b"\xff" + value[cut + 1 :], st.sampled_from(SAMPLES), st.integers(0, 400)
    ),
    st.builds(lambda value, cut: value[:cut], st.sampled_from(SAMPLES), st.integers(0, 400)),
)
NAMES_OF_HEADERS = st.sampled_from(
    [h.CONTENT_TYPE, h.CE_ID, h.ID, h.LANE, h.KEEP_S, h.TENANT, h.REPLY_TOPIC, h.REPLY_PARTITION, h.CORRELATION_ID]
)
HEADER_VALUES = st.binary(max_size=20) | st.sampled_from([b"text/plain", b"application/json", b"bulk", b"7"])
TOPICS = st.sampled_from(["embedmq.minilm.bulk", "embedmq.shared.bulk", "embedmq.retry.10s", "else", "embedmq..bulk"])


@given(
    VALUES,
    st.lists(st.tuples(NAMES_OF_HEADERS, st.none() | HEADER_VALUES), max_size=5),
    TOPICS,
    st.none() | st.binary(max_size=10),
    st.sampled_from([10, 1024**2]),
)
@example(rb'{"items":["\ud800"],"meta":{"\ud800":""}}', [], "embedmq.minilm.bulk", None, 1024)
@example(b'{"id":"\\u0000","items":["a"]}', [("embedmq-id", b"\xff")], "embedmq.shared.bulk", b"\xff", 1024)
def test_any_record_gives_a_request_or_a_refusal_that_can_be_answered(
    value: bytes | None, headers: list[tuple[str, bytes]], topic: str, key: bytes | None, limit: int
) -> None:
    """Nothing raises; whatever comes out has a usable id and can be encoded in the record's codec."""
    opened = open_record(Record(topic, 0, 1, 2, key, value, headers), Names(), limit)
    envelope = opened.envelope if isinstance(opened, Refusal) else opened[0]
    assert is_id(envelope.id)
    assert envelope.model == "" or is_model_name(envelope.model)
    assert envelope.keep_s is None or envelope.keep_s >= 0
    if isinstance(opened, Refusal):
        assert opened.code in CODES
        assert len(opened.message) <= 200
        failed = Failed(id=envelope.id, code=opened.code, message=opened.message, meta=envelope.meta)
        assert decode_result(encode_result(failed, envelope.codec)) == failed
    else:
        assert envelope.model
        assert msgspec.msgpack.encode(opened[1])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_result_or_undecodable(value: bytes) -> None:
    """A client that reads somebody else's bytes gets one error, always the same."""
    for read in (decode_result, split_results):
        with suppress(Undecodable):
            read(value)


def test_a_result_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """Results are read tolerantly: workers may be upgraded before their clients."""
    later = {"type": "embedded", "id": "x", "count": 1, "colour": "red", "timing": {"queue_ms": 1.0, "copy_ms": 2.0}}
    read = decode_result(msgspec.json.encode(later))
    assert isinstance(read, Embedded)
    assert (read.id, read.count, read.timing.queue_ms) == ("x", 1, 1.0)
    assert decode_result(msgspec.msgpack.encode(later)) == read


def test_in_an_entry_a_result_of_an_unknown_type_is_passed_over_and_its_neighbours_are_not() -> None:
    """One worker of a later version must not silence the others."""
    known = {"type": "failed", "id": "x", "code": "not-invented-yet", "later": 1}
    results = split_results(msgspec.msgpack.encode([{"type": "classified", "id": "y"}, known, {}, 5, known]))
    assert results == [Failed(id="x", code="not-invented-yet")] * 2
