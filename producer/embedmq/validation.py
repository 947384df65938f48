"""What is wrong with a request, before it is sent?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from numbers import Integral, Real
from typing import NoReturn, TypeGuard

from embedmq_schemas.names import Names, is_id, is_model_name, is_topic
from embedmq_schemas.requests import DTYPES, ENCODINGS, LANES, OUTPUTS, Item

from embedmq.errors import InvalidRequest

Items = str | Sequence[str | Sequence[int]] | Sequence[int]
"""One item or several; an item is a text or a sequence of token ids, so a flat sequence of integers is one item."""

_TOKEN_CEILING = 2**31 - 1
_WHOLE_CEILING = 2**63 - 1
"""The largest number that the wire has."""
_TIMEOUT_CEILING_S = 10**9
"""A time limit of thirty years is none."""


def read_items(items: object) -> list[Item]:
    """The items of a call as the wire has them, in a list of our own: callers may go on with theirs meanwhile.

    Raises:
        InvalidRequest: naming the one that is none.
    """
    if isinstance(items, str):
        return [plain(items)]
    if type(items) is list:
        own = items.copy()
        if set(map(type, own)) == {str}:
            return own
    if not _is_sequence(items):
        raise InvalidRequest(f"items: {_kind(items)}: pass a str, or a sequence of str or of token ids")
    if not len(items):
        raise InvalidRequest("items: empty: pass at least one item")
    if isinstance(items[0], Integral):
        one: Item = _tokens(items, "items")
        return [one]
    return [item if type(item) is str else read_item(item, f"items[{i}]") for i, item in enumerate(items)]


def read_texts(texts: object) -> list[str]:
    """Documents to score; raises InvalidRequest naming the one that is no text."""
    if not _is_sequence(texts):
        raise InvalidRequest(f"documents: {_kind(texts)}: pass a sequence of str")
    if not len(texts):
        raise InvalidRequest("documents: empty: pass at least one")
    read: list[str] = []
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidRequest(f"documents[{i}]: {_kind(text)}: must be a str")
        read.append(plain(text))
    return read


def read_text(name: str, value: object) -> str | None:
    """An option that is a text, or None; raises InvalidRequest."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRequest(f"{name}: {_kind(value)}: must be a str, or None")
    return plain(value)


def plain(text: str) -> str:
    """A text as the wire takes it, where a caller has one of a class of its own, as numpy's and an enumeration's are.

    (`str(text)` is up to that class: an enumeration gives the name.)
    """
    return str.__str__(text)


def read_query(query: object) -> str:
    """What documents are compared with; raises InvalidRequest."""
    if not isinstance(query, str):
        raise InvalidRequest(f"query: {_kind(query)}: must be a str")
    return plain(query)


def check_count(name: str, number: object) -> None:
    """Refuse what is neither a number of things nor None."""
    if number is not None and not (_is_whole(number) and number >= 1):
        raise InvalidRequest(f"{name}: {number!r} must be a whole number from 1, or None for all")


def check_place(model: object, lane: object) -> None:
    """Refuse what can be no model's name, or no lane."""
    if lane not in LANES:
        raise InvalidRequest(f"lane: {lane!r} is none: choose {_one_of(LANES)}")
    if not is_model_name(read_model(model)):
        raise _no_model(model)


def read_model(model: object) -> str:
    """A model's name, whatever it is; raises InvalidRequest where it is no text."""
    if not isinstance(model, str):
        raise _no_model(model)
    return plain(model)


def check_address(id: object, timeout_s: object) -> None:
    """Refuse an id or a time limit that no request may have."""
    if not (isinstance(id, str) and is_id(id)):
        raise InvalidRequest(f"id: {id!r} must match [A-Za-z0-9._:/-]{{1,128}}: use a UUID")
    if timeout_s is not None and not (_is_time(timeout_s) and 0 < timeout_s <= _TIMEOUT_CEILING_S):
        raise InvalidRequest(f"timeout_s: {timeout_s!r} must be a number of seconds above 0, or None for no limit")


def check_wait(wait_s: object) -> None:
    """Refuse what nobody can wait for a result."""
    if not _is_time(wait_s):
        raise InvalidRequest(f"wait_s: {wait_s!r}: must be a number of seconds, 0 or more")


def check_request_topic(topic: object, names: Names) -> None:
    """Refuse a topic where no request belongs: one of our own that is for something else."""
    _check_topic("topic", topic)
    if str(topic).startswith(f"{names.prefix}.") and names.parse(str(topic)) is None:
        raise InvalidRequest(f"topic: {topic} is no topic of requests: these are {names.prefix}.MODEL.LANE")


def check_reply_topic(topic: object, names: Names) -> None:
    """Refuse a topic where no worker would answer: our own are for requests."""
    _check_topic("reply_topic", topic)
    if str(topic).startswith(f"{names.prefix}."):
        raise InvalidRequest(f"reply_topic: {topic} begins with {names.prefix}, as only requests' topics do: rename it")


def check_labels(tenant: object, meta: object, item_ids: object, count: int, max_meta_bytes: int) -> None:
    """Refuse what no request may carry for its caller."""
    if tenant and not (isinstance(tenant, str) and tenant.isprintable()):  # so no lone surrogate either
        raise InvalidRequest(f"tenant: {tenant!r} must be a printable str")
    if meta is not None:
        _check_meta(meta, max_meta_bytes)
    if item_ids is not None:
        _check_item_ids(item_ids, count)


def check_embed(outputs: object, dimensions: object, dtype: object, encoding: object) -> None:
    """Refuse options of `embed` that no model can have."""
    if not _is_sequence(outputs) or not len(outputs):
        raise InvalidRequest(f"outputs: {outputs!r}: pass one or more of {_one_of(OUTPUTS)}, as a sequence")
    for output in outputs:
        if output not in OUTPUTS:
            raise InvalidRequest(f"outputs: {output!r} is none: choose of {_one_of(OUTPUTS)}")
    if dtype not in DTYPES:
        raise InvalidRequest(f"dtype: {dtype!r} is none: choose {_one_of(DTYPES)}")
    if encoding not in ENCODINGS:
        raise InvalidRequest(f"encoding: {encoding!r} is none: choose {_one_of(ENCODINGS)}")
    check_count("dimensions", dimensions)


def check_switches(normalize: object, truncate: object) -> None:
    """Refuse what is neither on nor off."""
    if normalize is not None and not isinstance(normalize, bool):
        raise InvalidRequest(f"normalize: {normalize!r}: must be True, False, or None for what the model does")
    if not isinstance(truncate, bool):
        raise InvalidRequest(f"truncate: {truncate!r}: must be True or False")


def check_keep(keep_s: object) -> None:
    """Refuse a time that no result can be kept for."""
    if keep_s is not None and not (_is_whole(keep_s) and keep_s >= 0):
        raise InvalidRequest(f"keep_s: {keep_s!r} must be a whole number of seconds, 0 or more")


def refuse_unencodable(texts: Mapping[str, object], cause: UnicodeEncodeError) -> NoReturn:
    """Say which text cannot be UTF-8, after an encoder has found that one cannot."""
    for place, text in texts.items():
        try:
            str(text).encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"{place}: a lone surrogate at character {error.start}: this is no text that UTF-8 can write; "
                "replace it, for example by text.encode(errors='replace').decode()"
            ) from None
    raise InvalidRequest(f"a text that UTF-8 cannot write: {cause.reason}") from None


def _no_model(model: object) -> InvalidRequest:
    return InvalidRequest(f"model: {model!r} is no model's name: lower-case letters, digits and dashes")


def _check_topic(place: str, topic: object) -> None:
    if not isinstance(topic, str) or not is_topic(topic):
        raise InvalidRequest(f"{place}: {topic!r} is no topic's name: letters, digits, dots, dashes and underscores")


def read_item(item: object, place: str) -> Item:
    """One item as the wire has it; raises InvalidRequest naming its `place`."""
    if isinstance(item, str):
        return plain(item)
    if not _is_sequence(item):
        raise InvalidRequest(f"{place}: {_kind(item)}: an item is a str or a sequence of token ids")
    return _tokens(item, place)


def _tokens(ids: Sequence[object], place: str) -> list[int]:
    if not len(ids):
        raise InvalidRequest(f"{place}: no token ids: an item has at least one")
    tokens: list[int] = []
    for i, id in enumerate(ids):
        if isinstance(id, bool) or not isinstance(id, Integral) or not 0 <= int(id) <= _TOKEN_CEILING:
            raise InvalidRequest(f"{place}[{i}]: {id!r} is no token id: whole numbers from 0, nothing else beside them")
        tokens.append(int(id))
    return tokens


def _check_meta(meta: object, max_bytes: int) -> None:
    size = 0
    for pair in meta.items() if isinstance(meta, Mapping) else [(meta, None)]:
        for text in pair:
            if not isinstance(text, str):
                raise InvalidRequest(f"meta: {_kind(text)}: must map str to str")
            size += len(text.encode(errors="replace"))
    if size > max_bytes:
        raise InvalidRequest(f"meta: {size} bytes; at most {max_bytes}: keep the rest under `id` or `item_ids`")


def _check_item_ids(item_ids: object, count: int) -> None:
    if not _is_sequence(item_ids) or not all(isinstance(x, str) for x in item_ids):
        raise InvalidRequest("item_ids: must be a sequence of str")
    if len(item_ids) != count:
        raise InvalidRequest(f"item_ids: {len(item_ids)} for {count} items: give one an item")


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value <= _WHOLE_CEILING


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, (float, int, Real)) and 0 <= float(value) < inf


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    """Several things in order, which a string is not here. Arrays of numpy are, though they do not say so."""
    several = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return several and not isinstance(value, (str, bytes, bytearray, memoryview, Mapping))


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _one_of(choices: Sequence[str]) -> str:
    return ", ".join(choices)
