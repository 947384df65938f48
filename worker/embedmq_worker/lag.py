"""How much waits for each model and lane, and since when? Pure: where partitions stand goes in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple

from embedmq_schemas.catalogue import LaneLag
from embedmq_schemas.names import Names
from embedmq_schemas.requests import Lane
from msgspec import Struct

UNSEEN_TOKENS: Final = 128
"""A request is taken to have so many tokens before one of its model was read."""
HALF_LIFE_S: Final = 60.0
"""After so long, what was read counts half beside what is read."""
FORGOTTEN: Final = 1e-3
"""A count that has halved so often is dropped, unless nothing newer was read."""

Lags = dict[str, dict[str, LaneLag]]
"""By model and lane."""


class Stand(NamedTuple):
    """One partition: how many records are unread, how many are read and have no outcome, and when the oldest of these
    was sent (None: nothing waits).
    """

    topic: str
    unread: int
    open: int
    oldest_unix_ms: float | None

    @property
    def records(self) -> int:
        """All without an outcome."""
        return self.unread + self.open


class Shares:
    """Whose records were read of late, by lane. On a shared topic nobody knows of whom an unread one is: a model is
    taken to have the part of them that it had of those read of late.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._decayed_s = clock()
        self._counts: dict[Lane, dict[str, float]] = {}

    def count(self, lane: Lane, model: str) -> None:
        """A record was read."""
        counts = self._counts.setdefault(lane, {})
        counts[model] = counts.get(model, 0.0) + 1.0

    def of(self, lane: Lane, models: Collection[str]) -> dict[str, float]:
        """The parts of some models, which make one together; equal parts where none was read yet."""
        counts = self._counts.get(lane, {})
        found = {model: counts[model] for model in models if model in counts} or dict.fromkeys(models, 1.0)
        total = sum(found.values())
        return {model: count / total for model, count in found.items()}

    def decay(self) -> None:
        """Time has passed."""
        now_s = self._clock()
        factor = 0.5 ** ((now_s - self._decayed_s) / HALF_LIFE_S)
        self._decayed_s = now_s
        for lane, counts in self._counts.items():
            most = max(counts.values()) * factor
            kept = {model: count * factor for model, count in counts.items() if count * factor >= most * FORGOTTEN}
            # of a lane that stands still the proportions stay, and never become zero
            self._counts[lane] = {model: max(count, 1e-200) for model, count in kept.items()}


class _Sum(Struct):
    records: int = 0
    oldest_unix_ms: float = float("inf")


def lags(
    stands: Iterable[Stand],
    names: Names,
    shared: Collection[str],
    shares: Shares,
    tokens_per_request: Mapping[str, float],
    now_unix_ms: float,
) -> Lags:
    """What waits for each model whose topics are read here, and for each of the `shared` ones the part that it has of
    what waits on the shared topics, none included. Retry topics do not count: what is on them waits on purpose.
    """
    sums: dict[tuple[str | None, Lane], _Sum] = {}
    for stand in stands:
        if (whose := names.parse(stand.topic)) is None:
            continue
        found = sums.setdefault(whose, _Sum())
        found.records += stand.records
        if stand.oldest_unix_ms is not None:
            found.oldest_unix_ms = min(found.oldest_unix_ms, stand.oldest_unix_ms)
    lags: Lags = {}
    for (model, lane), found in sums.items():
        age_s = round(max(0.0, now_unix_ms - found.oldest_unix_ms) / 1000, 3)
        for name, records in _parts(model, lane, found.records, shared, shares).items():
            tokens = int(records * tokens_per_request.get(name, UNSEEN_TOKENS))
            lags.setdefault(name, {})[lane] = LaneLag(records=records, tokens=tokens, oldest_s=age_s if records else 0)
    return lags


def _parts(model: str | None, lane: Lane, records: int, shared: Collection[str], shares: Shares) -> Mapping[str, int]:
    """Whose they are. Who has none is said to have none: whoever scales by this takes nothing said for a failure."""
    if model is not None:
        return {model: records}
    return dict.fromkeys(shared, 0) | divide(records, shares.of(lane, shared))


def divide(total: int, parts: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers by parts that make one; their sum is the total."""
    found: dict[str, int] = {}
    given, exact = 0, 0.0
    for name, part in parts.items():
        exact += part * total
        found[name] = round(exact) - given
        given += found[name]
    return found
