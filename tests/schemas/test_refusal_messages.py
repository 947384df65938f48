"""What does a refusal say, and what does it never repeat?"""

from __future__ import annotations

import msgspec
import pytest
from embedmq_schemas import Undecodable, decode_request
from embedmq_schemas.codec import Codec

CANARY = "the patient's name"


def refusal(value: object, codec: Codec) -> Undecodable:
    encode = msgspec.msgpack.encode if codec == "msgpack" else msgspec.json.encode
    with pytest.raises(Undecodable) as caught:
        decode_request(encode(value), codec)
    return caught.value


both = pytest.mark.parametrize("codec", ["json", "msgpack"])

EXPLAINED = {
    "unknown type": ({"type": "embd", "items": ["a"]}, "malformed", "no type that is known - at `$.type`"),
    "unknown reply type": (
        {"items": ["a"], "reply": {"type": "email"}},
        "malformed",
        "no type that is known - at `$.reply.type`",
    ),
    "reply of a score without type": (
        {"type": "score", "query": "q", "documents": ["a"], "reply": {"topic": "t"}},
        "malformed",
        "Object missing required field `type` - at `$.reply`",
    ),
    "misspelt option": ({"items": ["a"], "dimension": 3}, "unsupported", "Object contains unknown field `dimension`"),
    "misspelt option of a reply": (
        {"items": ["a"], "reply": {"type": "topic", "topic": "t", "kee": "k"}},
        "unsupported",
        "Object contains unknown field `kee` - at `$.reply`",
    ),
    "wrong field type": (
        {"items": ["a"], "keep_s": "1h"},
        "malformed",
        "Expected `int | null`, got `str` - at `$.keep_s`",
    ),
    "an item that is neither text nor tokens": (
        {"items": ["a", True]},
        "malformed",
        "Expected `str | array`, got `bool` - at `$.items[1]`",
    ),
    "no items": ({"type": "embed"}, "malformed", "Object missing required field `items`"),
    "100,001 items": ({"items": ["a"] * 100_001}, "too_large", "Expected `array` of length <= 65536 - at `$.items`"),
    "100,001 documents": (
        {"type": "score", "query": "q", "documents": ["a"] * 100_001},
        "too_large",
        "Expected `array` of length <= 65536 - at `$.documents`",
    ),
    "a type that reads like another error": (
        {"type": "Object contains unknown field `x`", "items": ["a"]},
        "malformed",
        "no type that is known - at `$.type`",
    ),
    "a field that reads like another error": (
        {"Object missing required field `type`": 1, "items": ["a"]},
        "unsupported",
        "Object contains unknown field `Object missing required field `type``",
    ),
}


@both
@pytest.mark.parametrize("name", EXPLAINED)
def test_a_refusal_names_the_field_and_has_the_right_code(name: str, codec: Codec) -> None:
    """Whatever is wrong, code and message are the same in both codecs and lead to the field."""
    value, code, message = EXPLAINED[name]
    error = refusal(value, codec)
    assert (error.code, error.message) == (code, message)


REPEATED = {
    "item": {"items": [CANARY, 5]},
    "token": {"items": [[CANARY]]},
    "items": {"items": CANARY},
    "type": {"type": CANARY, "items": ["a"]},
    "type of a reply": {"items": ["a"], "reply": {"type": CANARY}},
    "reply": {"items": ["a"], "reply": CANARY},
    "number": {"items": ["a"], "keep_s": CANARY},
    "value in meta": {"items": ["a"], "meta": {"k": [CANARY]}},
    "name in meta": {"items": ["a"], "meta": {CANARY: 5}},
    "value of an unknown field": {"items": ["a"], "text": CANARY},
    "far into the name of an unknown field": {"items": ["a"], "x" * 100 + CANARY: 1},
    "a name made to look like a place": {"items": ["a"], "x" * 100 + "` - at `$." + CANARY: 1},
    "document": {"type": "score", "query": "q", "documents": [[CANARY]]},
    "the whole value": CANARY,
}


@both
@pytest.mark.parametrize("name", REPEATED)
def test_a_refusal_never_repeats_the_text_of_a_request(name: str, codec: Codec) -> None:
    """Messages reach logs, dead letters and other people's callers: no value of a request is in them."""
    assert CANARY not in refusal(REPEATED[name], codec).message


@both
@pytest.mark.parametrize("length", [1, 60, 100, 100_000])
def test_the_name_of_an_unknown_field_is_repeated_only_so_far(length: int, codec: Codec) -> None:
    """A misspelt name is shown; a whole text in its place is cut."""
    message = refusal({"items": ["a"], "x" * length: 1}, codec).message
    assert message.startswith("Object contains unknown field `x")
    assert len(message) <= 100
