"""How is a place in a source kept in a checkpoint, and found there again?"""

from __future__ import annotations

from typing import TypeVar, cast

import msgspec
from msgspec import Struct

from embedmq.bulk.errors import SourceRefused
from embedmq.bulk.rows import Position

_Place = TypeVar("_Place", bound=Struct)


def to_position(place: Struct) -> Position:
    """A source's own struct, of scalars and of mappings of scalars, as the checkpoint has it."""
    return cast("Position", msgspec.to_builtins(place))


def from_position(position: Position, kind: type[_Place]) -> _Place:
    """The source's own struct again; raises SourceRefused where another kind of source wrote it."""
    try:
        return msgspec.convert(position, kind)
    except msgspec.ValidationError as error:
        message = f"the checkpoint is of another kind of source ({error})"
        raise SourceRefused(f"{message}: name the source as before, or begin anew with --restart") from None
