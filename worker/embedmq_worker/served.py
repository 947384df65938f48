"""Which models does a worker serve, given its file and the orders of its fleet, and what differs from before? Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from embedmq_schemas.control import Order
from msgspec import Struct, field, structs

from embedmq_worker.config import Model
from embedmq_worker.orders import Orders, shorten

PLACE: Final = ("served", "pinned", "shared")
"""What a model says of its name; all else it says of the checkpoint that answers under the name."""

Models = Mapping[str, Model]


class Served(Struct, frozen=True):
    """Every model that a worker may load, as it is to be served now."""

    models: Models
    entries: Mapping[str, str] = field(default_factory=dict[str, str])
    """Under which entry of the configuration the checkpoint is listed, where it is not the model's own."""
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
    """Models whose last order is not followed, and why."""


class Changes(Struct, frozen=True):
    """What is otherwise than before, by model."""

    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    repointed: frozenset[str] = frozenset()
    """Those that another checkpoint answers for, or the same one otherwise."""
    pinned: frozenset[str] = frozenset()
    unpinned: frozenset[str] = frozenset()
    served: frozenset[str] = frozenset()
    unserved: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return any(structs.astuple(self))


def overlay(models: Models, orders: Orders) -> Served:
    """The configuration with the orders laid over it. They choose among its entries, so one that names what is not
    there is refused as a whole: its model is served as the configuration says, whatever was ordered earlier.
    """
    found, entries, refused = dict(models), dict[str, str](), dict(orders.broken)
    for name, order in orders.last.items():
        if name not in models:
            refused.setdefault(name, "it is not configured here")
        elif order.entry is not None and order.entry not in models:
            refused.setdefault(name, shorten(f"there is no entry {order.entry!r} here"))
        else:
            found[name] = _follow(models, name, order)
            if order.entry not in (None, name):
                entries[name] = str(order.entry)
    return Served(found, entries, refused)


def pinned_by_order(models: Models, orders: Orders) -> frozenset[str]:
    """Models that the file does not pin, or not with that checkpoint: a worker that starts does not wait for them."""
    return frozenset(
        name
        for name, order in orders.last.items()
        if order.entry not in (None, name) or name not in models or not models[name].pinned
    )


def diff(before: Models, after: Models) -> Changes:
    """What to do to come from one to the other. A model that is added may be pinned and served by that, too."""
    both = before.keys() & after.keys()
    return Changes(
        added=frozenset(after.keys() - before.keys()),
        removed=frozenset(before.keys() - after.keys()),
        repointed=frozenset(name for name in both if _checkpoint(before[name]) != _checkpoint(after[name])),
        pinned=_pinned(after) - _pinned(before),
        unpinned=_pinned(before) - _pinned(after),
        served=_served(after) - _served(before),
        unserved=_served(before) - _served(after),
    )


def _follow(models: Models, name: str, order: Order) -> Model:
    own = models[name]
    source = own if order.entry is None else models[order.entry]
    return structs.replace(
        source,
        served=own.served if order.served is None else order.served,
        pinned=own.pinned if order.pinned is None else order.pinned,
        shared=own.shared,
    )


def _checkpoint(model: Model) -> dict[str, object]:
    """What is loaded for it, and how."""
    return {key: value for key, value in structs.asdict(model).items() if key not in PLACE}


def _pinned(models: Models) -> frozenset[str]:
    return frozenset(name for name, model in models.items() if model.pinned)


def _served(models: Models) -> frozenset[str]:
    return frozenset(name for name, model in models.items() if model.served)
