"""What fails for a reason that may pass is tried again, at most four times, and never after its deadline."""

from __future__ import annotations

import time

import pytest
from embedmq_schemas import headers as h
from embedmq_schemas.envelope import open_record
from embedmq_schemas.journey import FRESH, Journey
from embedmq_schemas.limits import MAX_ATTEMPTS, Limits
from embedmq_schemas.names import Names
from embedmq_schemas.requests import Embed
from embedmq_schemas.results import Failed
from embedmq_worker.config import Redis
from embedmq_worker.engine.seam import Fault
from embedmq_worker.jobs import Job, Outcome, Retry
from embedmq_worker.plan import Planner
from embedmq_worker.retry import Retries
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.worker.jobs import TIMESTAMP_MS, make_envelope, make_job, make_record

NAMES = Names("p")
RETRIES = Retries([10, 300], NAMES)
PLANNER = Planner(NAMES, Redis(), Limits(), "w")
FAULT = Fault("model_unavailable", "the disk did not answer")
NOW_MS = 1_800_000_000_000.0


def job_of(journey: Journey = FRESH, deadline_unix_ms: int | None = None) -> Job:
    job = make_job("id")
    job.envelope = structs.replace(make_envelope("id"), journey=journey)
    job.request = Embed(items=["x"], deadline_unix_ms=deadline_unix_ms)
    return job


def test_attempts_are_spent_one_by_one_over_growing_delays_and_the_last_fails() -> None:
    """10 s, 5 min, 5 min, and then the caller gets the failure, with the number of attempts."""
    delays: list[int] = []
    journey = Journey()
    while isinstance(ending := RETRIES.again(job_of(journey), FAULT, NOW_MS), Retry):
        assert ending.journey.not_before_unix_ms == NOW_MS + ending.delay_s * 1000
        delays.append(ending.delay_s)
        journey = ending.journey
    assert delays == [10, 300, 300]
    assert isinstance(ending.result, Failed)
    assert (ending.result.code, ending.result.attempts) == ("model_unavailable", MAX_ATTEMPTS)


def test_parking_spends_no_attempt_and_takes_its_time() -> None:
    """However often it is done; what takes long waits in a slower topic, and is not written again all the time."""
    journey, delays = Journey(attempts=2), list[int]()
    for parked in range(1, 15):
        ending = RETRIES.park(job_of(journey), FAULT, NOW_MS)
        assert isinstance(ending, Retry)
        assert (ending.journey.attempts, ending.journey.parked) == (2, parked)
        delays.append(ending.delay_s)
        journey = ending.journey
    assert delays == [10] * 6 + [300] * 8


def test_what_broke_a_device_runs_alone_whatever_befalls_it_next() -> None:
    """Its model away, or memory short: it may still break a device."""
    journey = Journey(attempts=1, alone=True)
    for ending in (RETRIES.again(job_of(journey), FAULT, NOW_MS), RETRIES.park(job_of(journey), FAULT, NOW_MS)):
        assert isinstance(ending, Retry)
        assert ending.journey.alone


@pytest.mark.parametrize(("spends", "code"), [(True, "model_unavailable"), (False, "deadline_exceeded")])
def test_what_would_be_due_after_its_deadline_fails_at_once(*, spends: bool, code: str) -> None:
    """Nobody would wait for it by then: a spent attempt says its reason, one that was only parked the deadline."""
    job = job_of(deadline_unix_ms=int(NOW_MS) + 9_999)
    ending = RETRIES.again(job, FAULT, NOW_MS) if spends else RETRIES.park(job, FAULT, NOW_MS)
    assert isinstance(ending, Outcome)
    assert isinstance(ending.result, Failed)
    assert ending.result.code == code


def test_a_request_that_is_tried_again_is_the_request_that_came() -> None:
    """Key, value and headers of its own; id, lane, model and first place are frozen, and survive a second time."""
    record = make_record(
        topic="p.m.bulk", key=b"tenant", value=b'{"items":["x"]}', headers=[("ce_id", b"mine"), (h.ATTEMPT, b"9")]
    )
    for spent in (1, 2):
        opened = open_record(record, NAMES, 1_000)
        assert isinstance(opened, tuple)
        envelope, request = opened
        assert (envelope.id, envelope.lane, envelope.model) == ("mine", "bulk", "m")
        assert envelope.journey.attempts == spent - 1
        job = make_job("mine")
        job.record, job.envelope, job.request = record, envelope, request
        (write,) = PLANNER.plan([RETRIES.again(job, FAULT, NOW_MS)]).retries
        assert (write.topic, write.key, write.value) == (NAMES.retry((10, 300)[spent - 1]), b"tenant", record.value)
        found = dict(write.headers)
        assert len(found) == len(write.headers), "every header once"
        assert found["ce_id"] == b"mine"
        assert found[h.DLT_TOPIC] == b"p.m.bulk"
        assert found[h.FIRST_SEEN] == str(TIMESTAMP_MS).encode()
        assert (found[h.ATTEMPT], found[h.MODEL], found[h.LANE]) == (str(spent).encode(), b"m", b"bulk")
        record = make_record(topic=write.topic, key=write.key, value=write.value, headers=found_bytes(found))


def found_bytes(found: dict[str, bytes | None]) -> list[tuple[str, bytes]]:
    return [(name, value) for name, value in found.items() if value is not None]


HEADER = st.one_of(st.binary(max_size=24), st.integers(-(10**19), 10**19).map(lambda number: str(number).encode()))


@given(attempt=HEADER, parked=HEADER, not_before=HEADER, first_seen=HEADER, alone=HEADER)
def test_no_header_makes_a_request_go_round_for_ever_or_wait_longer_than_its_topic(
    attempt: bytes, parked: bytes, not_before: bytes, first_seen: bytes, alone: bytes
) -> None:
    """Corrupt headers, attempts out of range, a due time a year ahead: it is tried, at most as often as any other."""
    headers = [
        (h.ATTEMPT, attempt),
        (h.PARKED, parked),
        (h.NOT_BEFORE, not_before),
        (h.FIRST_SEEN, first_seen),
        (h.ALONE, alone),
    ]
    record = make_record(topic=NAMES.retry(10), key=b"m", value=b'{"items":["x"]}', headers=headers)
    assert 0 <= RETRIES.wait_s(record.topic, headers, NOW_MS) <= 10
    opened = open_record(record, NAMES, 1_000)
    assert isinstance(opened, tuple)
    assert 0 <= opened[0].journey.attempts < MAX_ATTEMPTS
    assert opened[0].journey.parked >= 0


def test_a_record_is_not_due_before_its_time_and_any_topic_but_the_retry_ones_knows_no_time() -> None:
    """Its due time is only a worker's word where only workers write."""
    headers = [(h.NOT_BEFORE, str(int(NOW_MS) + 2_500).encode())]
    assert RETRIES.wait_s(NAMES.retry(10), headers, NOW_MS) == 2.5
    assert RETRIES.wait_s(NAMES.retry(10), headers, NOW_MS + 2_500) == 0
    assert RETRIES.wait_s("p.m.bulk", headers, NOW_MS) == 0


def test_headers_of_workers_mean_nothing_on_a_topic_where_anybody_writes() -> None:
    """Neither attempts nor a model of another topic's."""
    headers = [(h.ATTEMPT, b"3"), (h.MODEL, b"other"), (h.ALONE, b"1"), (h.NOT_BEFORE, b"9")]
    opened = open_record(make_record(topic="p.m.bulk", value=b'{"items":["x"]}', headers=headers), NAMES, 1_000)
    assert isinstance(opened, tuple)
    assert (opened[0].journey, opened[0].model) == (Journey(), "m")


def test_a_replayed_request_has_no_deadline() -> None:
    """It was met long ago: who replays a dead letter wants it computed all the same."""
    late = int(time.time() * 1000) - 1
    value = b'{"items":["x"],"deadline_unix_ms":%d}' % late
    opened = open_record(make_record(topic="p.m.bulk", value=value, headers=[(h.REPLAYED, b"1")]), NAMES, 1_000)
    assert isinstance(opened, tuple)
    assert opened[1].deadline_unix_ms is None
