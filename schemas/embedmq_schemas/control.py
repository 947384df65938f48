"""What can an operator ask of running workers?"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct


class Order(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How one model is to be served from now on: the value of a record on the control topic whose key is the model.

    The topic is compacted and has one partition, so the last order of a model is its state, in the order that Kafka
    gave them: whoever reads it later finds the same. `None` means as the worker's configuration says; no value at all
    (a tombstone) means that of everything. Orders choose among the entries of a worker's `[models]`: they bring none.
    """

    served: bool | None = None
    """Whether its topics are read."""
    pinned: bool | None = None
    """Whether it is loaded at once and never evicted."""
    entry: str | None = None
    """The entry of `[models]` whose checkpoint answers under this name."""
    by: str = ""
    """Who asked, for the log."""
    issued_unix_ms: int = 0
    """When, by the clock of whoever asked, for the log: Kafka's order decides."""


_DECODER: Final = msgspec.json.Decoder(Order)
_ENCODER: Final = msgspec.json.Encoder()


def encode_order(order: Order) -> bytes:
    """Encode for the control topic, as JSON that a person can read and write there."""
    return _ENCODER.encode(order)


def decode_order(value: bytes) -> Order:
    """Decode a record of the control topic; raises `msgspec.MsgspecError`, and UnicodeDecodeError, when it is none."""
    return _DECODER.decode(value)
