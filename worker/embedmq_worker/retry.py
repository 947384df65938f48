"""Is a request that cannot be computed now tried again later, and when? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from embedmq_schemas.headers import NOT_BEFORE, Headers, find, number
from embedmq_schemas.journey import Journey
from embedmq_schemas.limits import MAX_ATTEMPTS
from embedmq_schemas.names import Names

from embedmq_worker.decode import fail
from embedmq_worker.engine.seam import Fault
from embedmq_worker.jobs import Ending, Job, Retry, deadline_unix_ms

PARKS_EACH: Final = 6
"""How often a request is parked for one delay before it is for the next longer one: what takes long is not written
again every few seconds."""


class Retries:
    """Knows the delays; each call is a decision about one request."""

    def __init__(self, delays_s: Sequence[int], names: Names) -> None:
        self._delays_s = delays_s
        self._topics = {names.retry(delay_s): delay_s for delay_s in delays_s}

    def again(self, job: Job, fault: Fault, now_unix_ms: float, *, alone: bool = False) -> Ending:
        """Try again, or fail after the last attempt, or with no time left."""
        return self.retry(job, fault, now_unix_ms, alone=alone) or fail(job, fault)

    def retry(self, job: Job, fault: Fault, now_unix_ms: float, *, alone: bool = False) -> Retry | None:
        """Spend an attempt: try again after the delay of that attempt. None after the last, or with no time left."""
        spent = job.envelope.journey.attempts + 1
        delay_s = self._delays_s[min(spent, len(self._delays_s)) - 1]
        due_ms = now_unix_ms + delay_s * 1000
        if spent >= MAX_ATTEMPTS or due_ms > deadline_unix_ms(job):
            return None
        journey = job.envelope.journey
        return self._retry(job, fault, Journey(spent, journey.parked, alone or journey.alone, int(due_ms)), delay_s)

    def park(self, job: Job, fault: Fault, now_unix_ms: float) -> Ending:
        """Spend nothing: another worker may do it, or this one later. Fails when the deadline does not allow it."""
        journey = job.envelope.journey
        delay_s = self._delays_s[min(journey.parked // PARKS_EACH, len(self._delays_s) - 1)]
        due_ms = now_unix_ms + delay_s * 1000
        if due_ms > deadline_unix_ms(job):
            return fail(job, Fault("deadline_exceeded", f"it would be tried after its deadline only: {fault.message}"))
        parked = Journey(journey.attempts, journey.parked + 1, journey.alone, int(due_ms))
        return self._retry(job, fault, parked, delay_s)

    def wait_s(self, topic: str, headers: Headers, now_unix_ms: float) -> float:
        """How long a record is not due yet; 0 of any but the retry topics.

        Never longer than its topic's delay, whatever a header or a clock says: it has been there for that long by then.
        """
        delay_s = self._topics.get(topic)
        if delay_s is None:
            return 0.0
        not_before = number(find(headers), NOT_BEFORE) or 0
        return min(max(0.0, (not_before - now_unix_ms) / 1000), float(delay_s))

    def _retry(self, job: Job, fault: Fault, journey: Journey, delay_s: int) -> Retry:
        job.request = None  # the record is what travels on
        return Retry(job, fault, journey, delay_s)
