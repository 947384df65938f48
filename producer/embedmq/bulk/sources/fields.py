"""What row do the fields of a record make, and which columns must a source have?"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Final
from uuid import UUID

import msgspec

from embedmq.bulk.errors import SourceRefused
from embedmq.bulk.rows import Columns, Flaw, Row, Scalar

MAX_ID_CHARS: Final = 512
"""Longest id: sinks index them."""
MAX_ROW_BYTES: Final = 4 * 1_048_576
"""Largest line, record or text that is read; more is passed over as a flaw, without holding it."""
SHOWN_NAMES: Final = 20

_KINDS: Final[Mapping[type, str]] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    bytes: "bytes that are not UTF-8",
    type(None): "null",
}


def settle(columns: Columns, there: Collection[str], where: str) -> Columns:
    """The columns with the id decided: `id` where a source has one and none is named; None still says the row's number.

    Raises SourceRefused for a column that is not among those `there`.
    """
    wanted = [("text", columns.text), ("id", columns.id), *(("keep", name) for name in columns.keep)]
    for option, name in wanted:
        if name is not None and name not in there:
            raise SourceRefused(f"{where} has no column {name!r} (--{option}): {suggest(name, there)}")
    return msgspec.structs.replace(columns, id=columns.id or ("id" if "id" in there else None))


def suggest(name: str, there: Collection[str]) -> str:
    """What there is instead, the likeliest first."""
    close = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    names = ", ".join(list(there)[:SHOWN_NAMES]) + (", …" if len(there) > SHOWN_NAMES else "")
    return (f"did you mean {close[0]!r}? " if close else "") + f"There is {names or 'nothing'}"


def read_row(columns: Columns, fields: Mapping[str, object], where: str, number: str = "") -> Row | Flaw:
    """A record as a row, or why it is none.

    A text is any string, the empty one too, as for `embed`. An id is a string of 1 to `MAX_ID_CHARS`, a whole number or
    a UUID; `number` stands for it where no column is named. What is kept travels as text unless it is a scalar: a date
    in ISO form, a list or an object as JSON.
    """
    text = fields.get(columns.text)
    id = number if columns.id is None else fields.get(columns.id)
    if type(id) is int or isinstance(id, UUID):
        id = str(id)
    kept = {name: _scalar(fields.get(name)) for name in columns.keep} if columns.keep else {}
    if type(text) is str and type(id) is str and 0 < len(id) <= MAX_ID_CHARS:
        return Row(id, text, kept)
    reason = _not_text(columns.text, fields) or _no_id(columns.id or "id", id)
    readable = id if isinstance(id, str) and 0 < len(id) <= MAX_ID_CHARS else None
    return Flaw(where, "malformed", reason, readable, text if isinstance(text, str) else None, kept)


def _not_text(name: str, fields: Mapping[str, object]) -> str:
    if name not in fields:
        return f"no {name!r}: {suggest(name, fields)}"
    value = fields[name]
    return "" if isinstance(value, str) else f"{name!r} is {_kind(value)}, where a text was expected"


def _no_id(name: str, id: object) -> str:
    if not isinstance(id, str):
        return f"{name!r} is {_kind(id)}, which is no id: a text or a whole number is"
    return f"{name!r} is empty" if not id else f"{name!r} has {len(id)} characters; an id has at most {MAX_ID_CHARS}"


def _kind(value: object) -> str:
    return _KINDS.get(type(value), f"a value of type {type(value).__name__}")


def _scalar(value: object) -> Scalar:
    if value is None or isinstance(value, (str, int, float)):
        return value
    plain: object = msgspec.to_builtins(value, enc_hook=str)
    return plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()
