"""What a bulk job says of itself: read tolerantly, shown without secrets, believed only while somebody holds it."""

from __future__ import annotations

import math
import pickle
import string

import msgspec
import pytest
from embedmq.bulk.pace import Pace
from embedmq.bulk.status import LIVE, JobStatus, State, decode, encode, judge, redact
from hypothesis import assume, example, given
from hypothesis import strategies as st

WINDOW_S = 30.0


def status(**facts: object) -> JobStatus:
    return msgspec.convert({"name": "docs", "state": "running", **facts}, JobStatus)


def test_a_status_comes_back_as_it_was_and_fields_of_later_versions_are_passed_over() -> None:
    """JSON that a person can read in Redis."""
    before = status(model="minilm", sink="v.parquet", rows_done=7, rows_total=9, left_s=0.5, updated_unix_s=1.5)

    assert decode(encode(before)) == before
    assert decode(encode(before)[:-1] + b',"colour":"blue"}') == before


@given(st.binary())
@example(b"\xff")
@example(b"[" * 100_000)
@example(b'{"name":"a","state":"sleeping"}')
@example(b'{"name":"a","state":"done","started_unix_s":1e308}')
def test_a_damaged_status_is_none_and_never_an_exception(value: bytes) -> None:
    """Whatever the bytes are."""
    assert decode(value) is None


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("state", ["running", "paused", "waiting", "done", "failed", "cancelled", "interrupted"])
def test_a_live_job_that_nobody_holds_was_interrupted(state: State, held: bool) -> None:
    """Its process died; what has ended stays as it ended, and what is held is believed."""
    seen = judge(status(state=state, rate_per_s=3.0, left_s=9.0, rows_done=5), held=held)

    died = state in LIVE and not held
    assert seen.state == ("interrupted" if died else state)
    assert (seen.rate_per_s, seen.left_s, seen.rows_done) == ((0.0, None, 5) if died else (3.0, 9.0, 5))


@given(password=st.text(string.ascii_letters + string.digits + ":@/#%+&=;,!$*'()~", min_size=1))
@example(password="two\nlines")
def test_no_password_is_shown_escaped_or_not(password: str) -> None:
    """User, host and the rest stay as they were; showing twice changes nothing more."""
    shown = redact(f"postgresql://ann:{password}@db.example:5432/docs?table=pages&query=select '@'")

    assert shown == "postgresql://ann:***@db.example:5432/docs?table=pages&query=select '@'"
    assert redact(shown) == shown
    assert status(source=f"postgresql://ann:{password}@h/d").source == "postgresql://ann:***@h/d"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://ann:pa?ss@h/d?table=t", "postgresql://ann:***@h/d?table=t"),
        ("qdrant://h:6333/c?api_key=s3cret&wait=1", "qdrant://h:6333/c?api_key=***&wait=1"),
        ("postgresql://h/d?user=a&PASSWORD=s;3#c&table=t", "postgresql://h/d?user=a&PASSWORD=***&table=t"),
        ("kafka://h:9092/t?sasl_password=x&auth-token=y", "kafka://h:9092/t?sasl_password=***&auth-token=***"),
        ("kafka://h1:9092,h2:9092/topic?key=id&max_tokens=3", "kafka://h1:9092,h2:9092/topic?key=id&max_tokens=3"),
        ("postgresql://[::1]:5432/d?query=select a@b", "postgresql://[::1]:5432/d?query=select a@b"),
        ("docs/what is {this}?/*.jsonl", "docs/what is {this}?/*.jsonl"),
        (r"C:\data\password=1\docs.csv", r"C:\data\password=1\docs.csv"),
    ],
)
def test_secret_values_are_hidden_and_all_else_is_shown_as_it_is(address: str, shown: str) -> None:
    """Keys of columns, ports, paths and queries are no secrets."""
    assert redact(address) == shown


@given(
    before=st.integers(0, 10**9),
    early=st.integers(0, 10_000),
    each=st.integers(1, 10_000),
    step_s=st.floats(0.01, 20.0),
    began_s=st.floats(0, 1e6),
)
def test_the_rate_is_that_of_the_last_window(before: int, early: int, each: int, step_s: float, began_s: float) -> None:
    """Neither what an earlier run did nor how fast this one began counts any more; the time left follows from it."""
    pace, now_s, rows = Pace(WINDOW_S), began_s, before
    pace.note(now_s, rows)
    for grows in [early] * 5 + [each] * (math.ceil((WINDOW_S + 1) / step_s) + 2):
        now_s += step_s
        rows += grows
        pace.note(now_s, rows)

    assert pace.rate_per_s(now_s) == pytest.approx(each / step_s, rel=1e-6)
    assert pace.left_s(now_s, rows + 10 * each) == pytest.approx(10 * step_s, rel=1e-6)
    assert pace.left_s(now_s, rows) == 0.0
    assert pace.left_s(now_s, None) is None


@given(st.lists(st.tuples(st.floats(0, 1e9), st.integers(0, 10**12))), st.floats(0, 1e9), st.integers(0, 10**12))
def test_whatever_the_clock_says_a_rate_is_a_number(
    readings: list[tuple[float, int]], now_s: float, total: int
) -> None:
    """Never negative, never infinite; and nothing is promised of a job that stands still."""
    pace = Pace(WINDOW_S)
    for reading in readings:
        pace.note(*reading)

    rate, left_s = pace.rate_per_s(now_s), pace.left_s(now_s, total)
    assert math.isfinite(rate)
    assert rate >= 0
    assert left_s is None or (math.isfinite(left_s) and left_s >= 0)
    assume(readings)
    assert (left_s is None) <= (rate == 0)


def test_a_job_that_stands_still_slows_down() -> None:
    """Between readings too; then nobody knows how long it takes."""
    pace = Pace(WINDOW_S)
    pace.note(0.0, 100)
    pace.note(10.0, 200)

    assert pace.rate_per_s(10.0) == 10.0
    assert pace.rate_per_s(20.0) == 5.0
    assert pace.left_s(20.0, 300) == 20.0
    pace.note(40.0, 200)
    assert (pace.rate_per_s(40.0), pace.left_s(40.0, 300)) == (0.0, None)


def test_a_long_job_needs_no_more_memory_than_a_short_one() -> None:
    """However often it is read."""
    pace = Pace(WINDOW_S)
    for n in range(50_000):
        pace.note(n * 0.01, n)

    assert len(pickle.dumps(pace)) < 4_096
