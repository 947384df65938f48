"""What does the control topic say? Pure: records in, the last order of each model out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from embedmq_schemas.control import Order, decode_order
from embedmq_schemas.names import is_model_name
from msgspec import MsgspecError, Struct, field

MOST_MODELS: Final = 10_000
"""Models that are remembered from the topic, which may name any: further ones are refused."""
SHOWN: Final = 63
"""Characters of a key or a reason that are shown: whoever may write there may write anything."""


class Said(Protocol):
    """A record as the Kafka client hands it out."""

    @property
    def offset(self) -> int: ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...


class Orders(Struct, frozen=True):
    """What the topic says up to and with an offset: the last order of each model, and what on it is no order."""

    offset: int = -1
    last: Mapping[str, Order] = field(default_factory=dict[str, Order])
    broken: Mapping[str, str] = field(default_factory=dict[str, str])
    """Keys whose last record is none, and why: the order before it stays."""


def heed(orders: Orders, record: Said) -> Orders:
    """Take one record in. Kafka's order decides: of two for the same model the later one counts, whoever wrote it when;
    a record that was taken in before changes nothing, and one without a value takes the model's order back.
    """
    if record.offset <= orders.offset:
        return orders
    key, why = _key(record.key), ""
    last, broken = dict(orders.last), {name: why for name, why in orders.broken.items() if name != key}
    if not is_model_name(key):
        why = "its key is no model's name"
    elif record.value is None:
        last.pop(key, None)
    elif key not in last and len(last) >= MOST_MODELS:
        why = f"there are orders for {MOST_MODELS} models already"
    else:
        try:
            last[key] = decode_order(record.value)
        except (MsgspecError, UnicodeDecodeError) as error:
            why = f"it cannot be read: {error}"
    if why and len(broken) < MOST_MODELS:
        broken[key] = shorten(why)
    return Orders(record.offset, last, broken)


def shorten(text: str) -> str:
    """Something that may be anything, for one line of a log."""
    shown = " ".join(text.split())
    return shown if len(shown) <= 2 * SHOWN else f"{shown[: 2 * SHOWN]}…"


def _key(key: bytes | None) -> str:
    """The model that a record is about, or something to call it by."""
    text = (key or b"").decode("utf-8", "backslashreplace")
    return text if is_model_name(text) else ascii(text[:SHOWN])
