"""Which items of a long input travel together in one record?"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from embedmq_schemas.limits import Limits
from embedmq_schemas.requests import Embed, Item
from msgspec import Struct

from embedmq.errors import InvalidRequest
from embedmq.parts import FRAME_BYTES
from embedmq.requests import deadline, encode
from embedmq.validation import read_item, refuse_unencodable

RECORD_ITEMS = 128
"""Most items in a record: enough that what a record costs by itself does not matter."""
RECORD_BYTES = 65_536
"""Most bytes of items in a record, unless one item alone has more: as much as travels to Kafka in one batch."""
RECORDS_IN_WINDOW = 8
"""How many full records an input's window is made of, so that some are computed while others travel."""
HEAD_BYTES = 5
"""Most bytes that MessagePack puts before a text."""

Entry = str | Sequence[int] | tuple[str, str | Sequence[int]]
"""What an input consists of: an item, or `(item_id, item)`."""


class Packed(Struct, frozen=True, gc=False):
    """The items of one record; `item_ids` is as long as `items`, or None where they came without."""

    number: int
    """Of the record, from 0, …"""
    first: int
    """… and of its first item in the input."""
    items: list[Item]
    item_ids: list[str] | None

    def place(self, index: int) -> str:
        """One of its items, for a person."""
        item_id = "" if self.item_ids is None else f" ({self.item_ids[index]})"
        return f"items[{self.first + index}]{item_id}"


class Packer:
    """Fills one record after the other, in the order of the input."""

    def __init__(self, max_items: int, space_bytes: int) -> None:
        """`space_bytes` is what the workers' limits leave for items in one record."""
        self.max_items = max_items
        self.gathered = 0
        """How many items wait for the rest of their record."""
        self._space_bytes = space_bytes
        self._max_bytes = min(RECORD_BYTES, space_bytes)
        self._seen = 0
        self._open = Packed(0, 0, [], None)
        self._used_bytes = 0

    def add(self, entry: object) -> Sequence[Packed]:
        """Take the next item of the input; returns the records that are complete by it.

        Raises:
            InvalidRequest: it can be no item; the message has its number. What comes after it can be added.
        """
        number, self._seen = self._seen, self._seen + 1
        item_id, item, size = _read(entry, number, self._space_bytes)
        full: Sequence[Packed] = ()
        if self.gathered:
            with_ids = self._open.item_ids is not None
            if self._used_bytes + size > self._max_bytes or (item_id is not None) != with_ids:
                full = (self.close(),)
        if not self.gathered:
            self._open = Packed(self._open.number, number, [], None if item_id is None else [])
        self._open.items.append(item)
        if item_id is not None and self._open.item_ids is not None:
            self._open.item_ids.append(item_id)
        self._used_bytes += size
        self.gathered += 1
        return (*full, self.close()) if self.gathered == self.max_items else full

    def close(self) -> Packed:
        """What has been added since the last complete record."""
        closed = self._open
        self._open = Packed(closed.number + 1, self._seen, [], None)
        self._used_bytes = self.gathered = 0
        return closed


def record_items(max_in_flight: int) -> int:
    """How many items a record has at most where `max_in_flight` may be on their way; raises InvalidRequest."""
    check_items("max_in_flight", max_in_flight)
    return max(1, min(RECORD_ITEMS, max_in_flight // RECORDS_IN_WINDOW))


def check_items(name: str, count: object) -> None:
    """Refuse what is no bound; raises InvalidRequest."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InvalidRequest(f"{name}: {count!r} must be a whole number of items, 1 or more")


def packer_for(template: Embed, limits: Limits, max_items: int) -> Packer:
    """A packer for records that are like `template` and are within `limits`."""
    empty = msgspec.structs.replace(template, items=[], item_ids=[])
    return Packer(min(max_items, limits.max_items), limits.max_request_bytes - len(encode(empty)) - FRAME_BYTES)


def fill(template: Embed, packed: Packed, id: str, timeout_s: float | None) -> Embed:
    """The request for the items of one record."""
    return msgspec.structs.replace(
        template, id=id, items=packed.items, item_ids=packed.item_ids, deadline_unix_ms=deadline(timeout_s)
    )


def _read(entry: object, number: int, space_bytes: int) -> tuple[str | None, Item, int]:
    """Item id, item and the bytes that both take; raises InvalidRequest."""
    if type(entry) is str and entry.isascii() and len(entry) + HEAD_BYTES <= space_bytes:
        return None, entry, len(entry) + HEAD_BYTES  # most of what there is
    item_id, raw = _take_apart(entry)
    place = f"items[{number}]" if item_id is None else f"items[{number}] ({item_id})"
    try:
        item = read_item(raw, place)
        size = _bytes(item, place) + (0 if item_id is None else _bytes(item_id, place))
        if size > space_bytes:
            message = f"{place}: {size} bytes; one request holds {max(0, space_bytes)} beside its options"
            raise InvalidRequest(f"{message}: shorten it, or cut it into several items")
    except InvalidRequest as error:
        error.index, error.item_id = number, item_id
        raise
    return item_id, item, size


def _take_apart(entry: object) -> tuple[str | None, object]:
    if isinstance(entry, (tuple, list)) and len(entry) == 2 and isinstance(entry[0], str):
        return str(entry[0]), entry[1]
    return None, entry


def _bytes(item: Item, place: str) -> int:
    if not isinstance(item, str):
        return len(msgspec.msgpack.encode(item))
    try:
        return len(item.encode()) + HEAD_BYTES
    except UnicodeEncodeError as error:
        refuse_unencodable({place: item}, error)
