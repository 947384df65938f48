"""What is encoded? Calls of some requests each, the same for every side of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from embedmq_worker.engine.seam import Ask, Options
from msgspec import Struct

Calls = Sequence[Sequence[Ask]]
SETTING = TypeVar("SETTING")


class Work(Struct, Generic[SETTING], frozen=True):
    """Calls to make one after the other, each when the one before has its answer; and how the side is set up."""

    calls: Calls
    setting: SETTING


def singly(texts: Sequence[str]) -> Calls:
    """One call of many requests with one text each."""
    return [[Ask([text], Options()) for text in texts]]


def grouped(texts: Sequence[str], size: int) -> Calls:
    """One call of requests with up to `size` texts each."""
    return [[request for call in one_by_one(texts, size) for request in call]]


def one_by_one(texts: Sequence[str], size: int) -> Calls:
    """Calls of one request with up to `size` texts."""
    return [[Ask(texts[start : start + size], Options())] for start in range(0, len(texts), size)]


def reranked(queries: Sequence[str], documents: Sequence[str], size: int) -> Calls:
    """One call in which each query is compared with `size` documents, the next ones each time."""
    asks = []
    for number, query in enumerate(queries):
        theirs = [documents[(number * size + i) % len(documents)] for i in range(size)]
        asks.append(Ask(theirs, Options(), query))
    return [asks]


def count(calls: Calls) -> int:
    """How many texts, or pairs."""
    return sum(len(request.items) for call in calls for request in call)


def texts(call: Sequence[Ask]) -> list[str]:
    """The texts of one call."""
    return [item for request in call for item in request.items if isinstance(item, str)]


def pairs(call: Sequence[Ask]) -> list[tuple[str, str]]:
    """Query and document, of one call."""
    return [(request.query or "", text) for request in call for text in texts([request])]
