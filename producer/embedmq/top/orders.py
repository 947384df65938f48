"""What may be asked of a model by a key, and how is it asked for? Pure."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from embedmq.top.view import ModelRow

Wish = Literal["load", "unload", "pin", "unpin"]

ASKED: Final[dict[Wish, str]] = {
    "load": "Serve {model} on all workers that may?",
    "unload": "Serve {model} no more, on any worker? Its requests wait in Kafka.",
    "pin": "Pin {model}: load it now and keep it?",
    "unpin": "Unpin {model}: let it be evicted?",
}


class Told(Struct, frozen=True):
    """The part of an order that a key changes; None stays as it was."""

    served: bool | None = None
    pinned: bool | None = None


TOLD: Final[dict[Wish, Told]] = {
    "load": Told(served=True),
    "unload": Told(served=False),
    "pin": Told(pinned=True),
    "unpin": Told(pinned=False),
}


def pin_or_not(row: ModelRow) -> Wish:
    """The key `p` turns it round: what is pinned anywhere is let go everywhere."""
    return "unpin" if row.pinned else "pin"


def question(wish: Wish, model: str) -> str:
    """What is to be answered with y or n before anything is done."""
    return ASKED[wish].format(model=model) + "  y / n"
