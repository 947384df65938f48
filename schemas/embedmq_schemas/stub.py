"""What is remembered of a submitted request, so that pending, late, cancelled, expired and unknown differ?

The client writes a stub (`names.stub(id)`) before it publishes, to live `STUB_MARGIN_S` longer than the result. Who
writes the result marks the stub, if there is one: `SET <stub> <COMPLETED> XX KEEPTTL`, or `CANCELLED` when the result
says so. Who cancels the request puts `cancelled` into it in the same way, before the cancel key (`names.cancel(id)`) is
set. Then

| result | stub      | means                                                        |
|--------|-----------|--------------------------------------------------------------|
| there  | any       | finished                                                     |
| none   | pending   | still pending, or took too long once its deadline has passed |
| none   | cancelled | cancelled; a result that is computed all the same still wins |
| none   | completed | finished, and expired since                                  |
| none   | none      | unknown                                                      |
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from msgspec import Struct

from embedmq_schemas.codec import read_with

STUB_MARGIN_S: Final = 24 * 3600


class Stub(Struct, frozen=True, kw_only=True):
    """The mark that a request was submitted."""

    state: Literal["pending", "completed", "cancelled"] = "pending"
    submitted_unix_ms: int = 0
    keep_s: int = 0
    deadline_unix_ms: int | None = None


_JSON: Final = msgspec.json.Encoder()
_STUB: Final = msgspec.json.Decoder(Stub)


def encode_stub(stub: Stub) -> bytes:
    """Encode for Redis, as JSON that a person can read there."""
    return _JSON.encode(stub)


def decode_stub(value: bytes) -> Stub:
    """Decode tolerantly; raises `msgspec.MsgspecError` when it is none."""
    return read_with(_STUB, value)


COMPLETED: Final = encode_stub(Stub(state="completed"))
"""What the writer of a result puts in a stub's place; …"""
CANCELLED: Final = encode_stub(Stub(state="cancelled"))
"""… if the result says that the request was cancelled, this."""
