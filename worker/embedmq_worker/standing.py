"""What does a worker tell the leader of its group, and how little room may that take?

One version byte, then MessagePack. Version 1 said `{"worker": id}`. Version 2 is an array: worker, tokens/s, memory in
MiB, round, and a row for each topic of which there is anything to say: its place in the sorted subscription (which the
leader has at hand, so that no name is sent twice), the partitions held, the model's MiB if it is in memory, and the
tokens/s that arrive for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from math import log2
from statistics import fmean
from typing import Final

import msgspec
from embedmq_schemas.limits import MIB
from msgspec import Struct

from embedmq_worker.rates import Rate
from embedmq_worker.seat import ModelState
from embedmq_worker.units import model_of, places

VERSION: Final = 2
USER_DATA_BYTES: Final = 8_192
"""Most that one worker says. Kafka keeps a group in one record, which takes 1 MiB unless it is told otherwise."""
LAST_ROUND: Final = 2**62
"""No group comes so far: who says more must not keep a leader from counting on in eight bytes."""
_READ_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError)


class Standing(Struct, frozen=True, kw_only=True):
    """One worker as it sees itself; what is left out is not known.

    `tokens_per_s` is what its device can compute, `arriving` what comes in, by model, over both lanes (those without a
    topic of their own together, under `shared`). `resident` has the bytes of each model in memory.
    """

    tokens_per_s: float = 0.0
    memory_bytes: int = 0
    resident: Mapping[str, int] = {}
    arriving: Mapping[str, float] = {}


Look = Callable[[], Standing]
"""Called at each join, on the event loop: the answer has to be at hand."""


class Told(Struct, frozen=True, kw_only=True):
    """What a leader knows of one member: its standing, and the partitions that it held in which round."""

    worker: str = ""
    standing: Standing = Standing()
    owned: Mapping[str, Sequence[int]] = {}
    round: int = 0


def see(
    states: Mapping[str, ModelState],
    rates: Mapping[str, Rate],
    speeds: Mapping[str, float],
    memory_bytes: int,
    shared: Collection[str],
) -> Standing:
    """What a worker sees of itself: its models, what was computed of each in the last minute, and how fast.

    The speed is the mean of the models' own, to half a power of two: workers of one kind, whose measurements differ a
    little, say the same.
    """
    arriving: defaultdict[str, float] = defaultdict(float)
    for model, rate in rates.items():
        arriving["shared" if model in shared else model] += rate.tokens_per_s
    known = [speed for speed in speeds.values() if 0 < speed < float("inf")]
    return Standing(
        tokens_per_s=2.0 ** (round(2 * log2(fmean(known))) / 2) if known else 0.0,
        memory_bytes=memory_bytes,
        resident={model: state.bytes for model, state in states.items() if state.state == "resident"},
        arriving=arriving,
    )


class _Row(Struct, frozen=True, array_like=True):
    topic: int
    owned: list[int]
    mib: int
    tokens_per_s: int


class _Wire(Struct, frozen=True, array_like=True):
    worker: str
    tokens_per_s: int
    mib: int
    round: int
    rows: list[msgspec.Raw]


class _Read(_Wire, frozen=True, array_like=True):
    rows: list[_Row]  # type: ignore[assignment]  # the same bytes, read whole


class _First(Struct, frozen=True):
    worker: str = ""


def encode(told: Told, topics: Sequence[str]) -> bytes:
    """As `user_data`, of a member that subscribes to those topics, in that order.

    What exceeds `USER_DATA_BYTES` is left out: first topics of which nothing is held, then those with least traffic.
    """
    standing, rows, where = told.standing, [], places(tuple(topics))
    models = {*standing.resident, *standing.arriving, *map(model_of, told.owned)}
    for place in sorted(place for model in models for place in where.get(model, ())):
        topic, model = topics[place], model_of(topics[place])
        row = _Row(
            place,
            sorted(told.owned.get(topic, ())),
            -(-standing.resident.get(model, 0) // MIB),
            _whole(standing.arriving.get(model, 0.0)),
        )
        if row.owned or row.mib or row.tokens_per_s:
            rows.append(row)
    rows.sort(key=lambda row: (not row.owned, -row.tokens_per_s, row.topic))
    head = (told.worker, _whole(standing.tokens_per_s), standing.memory_bytes // MIB, told.round)
    left = USER_DATA_BYTES - len(msgspec.msgpack.encode(_Wire(*head, []))) - 1 - 4  # the version; a longer array's size
    chosen: list[msgspec.Raw] = []
    for row in rows:
        raw = msgspec.msgpack.encode(row)
        left -= len(raw)
        if left < 0:
            break
        chosen.append(msgspec.Raw(raw))
    return bytes([VERSION]) + msgspec.msgpack.encode(_Wire(*head, chosen))


def decode(user_data: bytes, topics: Sequence[str]) -> Told:
    """What a member said that subscribes to those topics. Of what cannot be read, nothing is known: it takes part."""
    version, body = user_data[:1], user_data[1:]
    try:
        if version == b"\x01":
            return Told(worker=msgspec.msgpack.decode(body, type=_First).worker)
        if version and version[0] >= VERSION:  # later versions add at the end
            return _told(msgspec.msgpack.decode(body, type=_Read), topics)
    except _READ_ERRORS:
        pass
    return Told()


def _told(wire: _Read, topics: Sequence[str]) -> Told:
    rows = [(topics[row.topic], row) for row in wire.rows if 0 <= row.topic < len(topics)]
    standing = Standing(
        tokens_per_s=max(0, wire.tokens_per_s),
        memory_bytes=max(0, wire.mib) * MIB,
        resident={model_of(topic): row.mib * MIB for topic, row in rows if row.mib > 0},
        arriving={model_of(topic): row.tokens_per_s for topic, row in rows if row.tokens_per_s > 0},
    )
    owned = {topic: row.owned for topic, row in rows if row.owned}
    return Told(worker=wire.worker, standing=standing, owned=owned, round=min(max(0, wire.round), LAST_ROUND))


def _whole(rate: float) -> int:
    """A rate that is not finite was not measured."""
    return round(rate) if 0 < rate < float("inf") else 0
