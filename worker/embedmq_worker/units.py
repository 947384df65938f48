"""What is assigned together? The partitions of one model; those of shared topics and of retries one by one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from embedmq_schemas.names import RESERVED_SLUGS
from msgspec import Struct

NAME_PARTS: Final = 3
"""`<prefix>.<model>.<lane>`: none of them holds a dot."""


class Unit(Struct, frozen=True):
    """Partitions of one topic that belong on as few workers as their traffic allows.

    `key` is the same for both lanes, so that two leaders who never talk send them to the same workers: the model's
    name, or `shared/3` for partition 3 of a shared topic, where a record's key (the model) chose the partition.
    `model` is what its traffic and its size are told under.
    """

    key: str
    model: str
    topic: str
    partitions: tuple[int, ...]


def model_of(topic: str) -> str:
    """The second part of a topic's name; the whole of one that is not called as ours are."""
    parts = topic.split(".")
    return parts[1] if len(parts) == NAME_PARTS else topic


@lru_cache(maxsize=4)
def places(topics: tuple[str, ...]) -> Mapping[str, list[int]]:
    """Where the topics of each model stand among some topics. Asked at each join, about the same ones."""
    found: dict[str, list[int]] = {}
    for place, topic in enumerate(topics):
        found.setdefault(model_of(topic), []).append(place)
    return found


def divide(partitions: Mapping[str, Sequence[int]]) -> list[Unit]:
    """All units of some topics, by topic and partition."""
    units: list[Unit] = []
    for topic in sorted(partitions):
        model, found = model_of(topic), tuple(sorted(partitions[topic]))
        if model in RESERVED_SLUGS:  # records for any model
            units += [Unit(f"{model}/{number}", model, topic, (number,)) for number in found]
        elif found:
            units.append(Unit(model, model, topic, found))
    return units
