"""How do requests and results become bytes, and bytes become them again?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from embedmq_schemas.codes import Code
from embedmq_schemas.requests import Embed, Request, Score
from embedmq_schemas.results import Result

_T_co = TypeVar("_T_co", covariant=True)

Codec = Literal["json", "msgpack", "text"]

CONTENT_TYPES: Final[dict[Codec, bytes]] = {
    "json": b"application/json",
    "msgpack": b"application/msgpack",
    "text": b"text/plain",
}

_EXACT: Final[dict[bytes, Codec]] = {name: codec for codec, name in CONTENT_TYPES.items()}

_JSON: Final = msgspec.json.Encoder()
_MSGPACK: Final = msgspec.msgpack.Encoder()
_REQUEST_JSON: Final[msgspec.json.Decoder[Request]] = msgspec.json.Decoder(Embed | Score)
_REQUEST_MSGPACK: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Embed | Score)
_EMBED_JSON: Final = msgspec.json.Decoder(Embed)
_EMBED_MSGPACK: Final = msgspec.msgpack.Decoder(Embed)
_RESULT_JSON: Final[msgspec.json.Decoder[Result]] = msgspec.json.Decoder(Result)
_RESULT_MSGPACK: Final[msgspec.msgpack.Decoder[Result]] = msgspec.msgpack.Decoder(Result)
_RESULTS_MSGPACK: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])

_UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# msgspec tells its errors apart by their text alone; tests hold each of these to its version.
_TYPE_MISSING: Final = "Object missing required field `type`"
_UNKNOWN_FIELD: Final = "Object contains unknown field `"
_UNKNOWN_TYPE: Final = "Invalid value "
_TOO_MANY: Final = "Expected `array` of length <="
_ECHO: Final = 96
"""Most characters of a message that repeats a field's name: a text in a name's place stays out of answers and logs."""


class Undecodable(ValueError):
    """Bytes that are not a request: `code` is `malformed`, `unsupported` (a field we do not know) or `too_large`."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message


class _Decoder(Protocol[_T_co]):
    def decode(self, value: bytes, /) -> _T_co: ...


def read_with(decoder: _Decoder[_T_co], value: bytes) -> _T_co:
    """Decode bytes that may be anything; raises `msgspec.MsgspecError`, and nothing else, when they are not ours."""
    try:
        return decoder.decode(value)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None


def detect(content_type: bytes | None, value: bytes) -> Codec:
    """Tell the codec of a record: by its header, and where that says nothing to us, by its first byte."""
    if content_type is not None:
        if (exact := _EXACT.get(content_type)) is not None:
            return exact
        essence = content_type.split(b";", 1)[0].strip(b" \t\"'").lower()
        for codec, name in CONTENT_TYPES.items():
            if essence == name:
                return codec
    return "json" if value[:1] == b"{" else "msgpack"


def encode_request(request: Request, codec: Literal["json", "msgpack"] = "msgpack") -> bytes:
    """Encode a request; fields that were not given are left out."""
    return _MSGPACK.encode(request) if codec == "msgpack" else _JSON.encode(request)


def decode_request(value: bytes, codec: Codec) -> Request:
    """Decode a request strictly: unknown fields are refused, naming them, since a misspelt option would be ignored.

    Raises:
        Undecodable: with the code and message that the caller should get.
    """
    if codec == "text":
        return _decode_text(value)
    try:
        return (_REQUEST_MSGPACK if codec == "msgpack" else _REQUEST_JSON).decode(value)
    except _UNDECODABLE as error:
        if str(error) != _TYPE_MISSING:
            raise _explain(error) from None
    try:
        return (_EMBED_MSGPACK if codec == "msgpack" else _EMBED_JSON).decode(value)
    except _UNDECODABLE as error:
        raise _explain(error) from None


def encode_result(result: Result, codec: Codec = "msgpack") -> bytes:
    """Encode a result; the answer to a plain text is JSON. NaN becomes null in JSON."""
    return _MSGPACK.encode(result) if codec == "msgpack" else _JSON.encode(result)


def decode_result(value: bytes | memoryview) -> Result:
    """Decode a result of either codec, tolerantly: fields of later versions are ignored.

    A MessagePack result's tensors are views of `value`, not copies.

    Raises:
        Undecodable: the bytes are no result.
    """
    try:
        return _RESULT_JSON.decode(value) if value[:1] == b"{" else _RESULT_MSGPACK.decode(value)
    except _UNDECODABLE as error:
        raise _explain(error) from None


def join_results(encoded: Sequence[bytes]) -> bytes:
    """Make one MessagePack array of results that are encoded already: the entry of a reply stream."""
    count = len(encoded)
    head = bytes([0x90 | count]) if count < 16 else b"\xdd" + count.to_bytes(4, "big")
    return b"".join([head, *encoded])


def split_results(entry: bytes) -> list[Result]:
    """Read an entry of a reply stream; results of a type unknown to this version are passed over.

    Raises:
        Undecodable: the entry is no MessagePack array.
    """
    try:
        raws = _RESULTS_MSGPACK.decode(entry)
    except _UNDECODABLE as error:
        raise _explain(error) from None
    results: list[Result] = []
    for raw in raws:
        try:
            results.append(_RESULT_MSGPACK.decode(raw))
        except _UNDECODABLE:
            continue
    return results


def _decode_text(value: bytes) -> Embed:
    try:
        return Embed(items=[value.decode("utf-8")])
    except UnicodeDecodeError as error:
        raise Undecodable("malformed", f"text/plain must be UTF-8: byte {error.start} is not") from None


def _explain(error: Exception) -> Undecodable:
    """Say what is wrong without repeating the request's text: of a field's name the beginning, of a value nothing."""
    if isinstance(error, UnicodeDecodeError):
        return Undecodable("malformed", f"a string is not UTF-8: {error.reason}")
    if isinstance(error, RecursionError):
        return Undecodable("malformed", "nested too deeply")
    message = str(error)
    if message.startswith(_UNKNOWN_FIELD):
        return Undecodable("unsupported", message if len(message) <= _ECHO else f"{message[:_ECHO]}…`")
    if message.startswith(_UNKNOWN_TYPE):
        return Undecodable("malformed", "no type that is known" + message[message.rindex(" - at `") :])
    return Undecodable("too_large" if message.startswith(_TOO_MANY) else "malformed", message)
