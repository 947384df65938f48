"""Which codec is a record in?"""

from __future__ import annotations

import msgspec
import pytest
from embedmq_schemas import Embed, Undecodable, decode_request
from embedmq_schemas.codec import Codec, detect

from tests.schemas.records import accept, make_record, refuse

JSON = b'{"items":["a"]}'
MSGPACK = msgspec.msgpack.encode({"items": ["a"]})


@pytest.mark.parametrize(
    ("content_type", "codec"),
    [
        (b"application/json", "json"),
        (b"Application/JSON", "json"),
        (b"application/json; charset=utf-8", "json"),
        (b"application/json;charset=UTF-8", "json"),
        (b'"application/json"', "json"),
        (b'"application/json; charset=utf-8"', "json"),
        (b" application/json ", "json"),
        (b"application/msgpack", "msgpack"),
        (b"APPLICATION/MSGPACK;v=1", "msgpack"),
        (b"'application/msgpack'", "msgpack"),
        (b"text/plain", "text"),
        (b"Text/Plain; charset=utf-8", "text"),
    ],
)
@pytest.mark.parametrize("value", [JSON, MSGPACK, b"", b"a cat"])
def test_a_known_content_type_decides_whatever_the_bytes_are(content_type: bytes, codec: Codec, value: bytes) -> None:
    """Case, parameters and surrounding quotes do not matter."""
    assert detect(content_type, value) == codec


@pytest.mark.parametrize(
    "content_type",
    [None, b"", b"application/octet-stream", b"application/cloudevents+json", b"json", b"\xff\xfe", b";", b"text/html"],
)
def test_without_one_or_with_one_that_means_nothing_the_first_byte_decides(content_type: bytes | None) -> None:
    """A value that begins with `{` is JSON, else MessagePack."""
    assert detect(content_type, JSON) == "json"
    assert detect(content_type, MSGPACK) == "msgpack"
    assert detect(content_type, b"") == "msgpack"
    assert detect(content_type, b" " + JSON) == "msgpack"


def test_the_same_request_is_read_from_either_codec_with_and_without_its_header() -> None:
    """A record says the same however it was written."""
    for raw, name in [(JSON, b"application/json"), (MSGPACK, b"application/msgpack")]:
        assert accept(make_record(raw=raw))[1] == Embed(items=["a"])
        assert accept(make_record(raw=raw, headers={"content-type": name}))[1] == Embed(items=["a"])


@pytest.mark.parametrize("text", ["a cat", "", '{"items":["a"]}', "two\nlines ", "🐈"])
def test_plain_text_is_one_item_byte_for_byte(text: str) -> None:
    """So that a console producer can feed a topic; nothing in it is taken for syntax."""
    _, request = accept(make_record(raw=text.encode(), headers={"content-type": b"text/plain"}))
    assert request == Embed(items=[text])


def test_plain_text_that_is_no_utf8_is_malformed() -> None:
    """The answer names the byte, not the text."""
    refusal = refuse(make_record(raw=b"a cat\xff", headers={"content-type": b"text/plain"}))
    assert (refusal.code, refusal.message) == ("malformed", "text/plain must be UTF-8: byte 5 is not")


def test_a_missing_type_is_embed_and_only_then() -> None:
    """The common request is the short one; a score must say that it is one."""
    assert decode_request(JSON, "json") == decode_request(MSGPACK, "msgpack") == Embed(items=["a"])
    with pytest.raises(Undecodable) as caught:
        decode_request(b'{"query":"q","documents":["a"]}', "json")
    assert caught.value.code == "unsupported"
