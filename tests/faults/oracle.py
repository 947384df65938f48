"""Is the promise kept? The invariants of the fault suite, over what was asked and what was seen. Pure.

I1 every accepted request has an outcome; I2 what its caller sees never changes, and what is kept changes at most from
a failure to a success; I3 vectors are those of the texts, and only what must fail fails; I4 no commit passes a record
without outcome (looked at whenever commits are read); I6 what is computed twice stays within what was in flight.
I5 and I7, about processes and keys, are the site's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.faults import truth
from tests.faults.ledger import Asked, Ledger, Place
from tests.faults.seen import Outcomes, Seen, channel

SHOWN = 5


class Commits:
    """I4: which accepted records have been passed by a commit, and did each have its outcome then?"""

    def __init__(self, ledger: Ledger, outcomes: Outcomes) -> None:
        self._ledger = ledger
        self._outcomes = outcomes
        self._checked: set[tuple[str, Place]] = set()
        self.checks = 0

    def check(self, committed: Mapping[Any, int], excused: set[str]) -> list[str]:
        """`committed` by (topic, partition), as it was before the outcomes were read; `excused` are ids whose answer
        was delivered, as their worker says, to a Redis that has lost it since.
        """
        problems: list[str] = []
        for id, places in self._ledger.accepted.items():
            asked = self._ledger.asked[id]
            for place in places:
                if (id, place) in self._checked or committed.get((place.topic, place.partition), 0) <= place.offset:
                    continue
                self._checked.add((id, place))
                self.checks += 1
                if id not in excused and not self._outcomes.by_id.get(id):
                    problems.append(f"I4: {place.topic}-{place.partition} passed {place.offset} ({asked.where}: {id})")
        return problems


def unanswered(ledger: Ledger, outcomes: Outcomes) -> list[str]:
    """I1: accepted ids whose caller has nothing."""
    return [asked.id for asked in ledger if not outcomes.answered(asked)]


def contradictions(ledger: Ledger, outcomes: Outcomes) -> list[str]:
    """I2 and I3, of everything that was seen."""
    problems: list[str] = []
    for asked in ledger:
        found = [(seen.channel, _wrong(asked, seen)) for seen in outcomes.by_id.get(asked.id, ())]
        problems += [f"I3: {asked.id} ({where}): {wrong}" for where, wrong in found if wrong is not None]
        if (wrong := _changed(outcomes.of(asked.id, "kept"))) is not None:
            problems.append(f"I2: {asked.id}: {wrong}")
        if asked.dead and not outcomes.of(asked.id, "dead"):
            problems.append(f"I1: {asked.id} has no dead letter")
        if not asked.dead and not asked.or_codes and outcomes.of(asked.id, "dead"):
            problems.append(f"I1: {asked.id} has a dead letter, and nothing was wrong with it")
    return problems


def repeated(ledger: Ledger, outcomes: Outcomes) -> int:
    """Answers beyond the first, on streams and topics: a caller ignores them."""
    sent = [asked for asked in ledger if asked.where in ("stream", "topic")]
    return sum(max(0, len(outcomes.of(asked.id, channel(asked))) - 1) for asked in sent)


def duplicates(computed: Mapping[str, int], ledger: Ledger) -> int:
    """Items that were computed more often than they were published."""
    times = {id: len(places) for id, places in ledger.accepted.items()}
    return sum(max(0, count - times.get(key.rpartition("#")[0], 1)) for key, count in computed.items())


def listed(problems: Sequence[str]) -> list[str]:
    """The first few, and how many more there are."""
    more = [f"… and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return [*problems[:SHOWN], *more]


def _wrong(asked: Asked, seen: Seen) -> str | None:
    result = seen.result
    if result is None:
        return None
    if result["type"] == "failed":
        allowed = asked.codes | asked.or_codes
        return None if result["code"] in allowed else f"failed as {result['code']}: {result['message']}"
    if asked.codes and not asked.failures:
        return f"answered, though it should fail as {'/'.join(sorted(asked.codes))}"
    failures = {failure["index"]: failure["code"] for failure in result.get("failures", ())}
    if failures != dict(asked.failures) and not (failures and set(failures.values()) <= asked.or_codes):
        return f"failures {failures} instead of {dict(asked.failures)}"
    return _wrong_rows(asked, rows(result), failures)


def _wrong_rows(asked: Asked, found: np.ndarray[Any, Any], failures: Iterable[int]) -> str | None:
    if found.shape != (len(asked.items), truth.WIDTH):
        return f"shape {found.shape}"
    for index, text in enumerate(asked.items):
        if index not in set(failures) and not np.array_equal(found[index], truth.vector(text)):
            return f"item {index} has the vector of another text"
    return None


def rows(result: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """The dense block of an answer."""
    dense = result["dense"]
    return np.frombuffer(dense["data"], "<f4").reshape(dense["shape"])


def _changed(kept: Sequence[Seen]) -> str | None:
    """The values that were kept under one id, one after the other: the same one may have been written again."""
    types = [seen.result["type"] for seen in kept if seen.result is not None]
    if "embedded" in types and "failed" in types[types.index("embedded") :]:
        return "a kept success became a failure"
    vectors = {rows(seen.result).tobytes() for seen in kept if seen.result and seen.result["type"] == "embedded"}
    return "a kept result changed its vectors" if len(vectors) > 1 else None
