"""A model that fails and fails is paused, and comes back by itself."""

from __future__ import annotations

import pytest
from embedmq_schemas.codes import CODES
from embedmq_schemas.results import Failure, Scored
from embedmq_worker.config import Worker
from embedmq_worker.guard import LONGEST, Guard, failed
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.jobs import make_embedded, make_failed

SETTINGS = Worker(guard_failures=4, guard_ratio=0.5, guard_window=6, guard_pause_s=10.0)
MODELS = ("a", "b")


def paused_guard(now_s: float = 0.0) -> Guard:
    guard = Guard(SETTINGS)
    assert [guard.observe("a", True, now_s) for _ in range(4)] == [None, None, None, "paused"]
    return guard


class Naive:
    """One model's guard as one would tell it: with everything that ever happened since it was last well."""

    def __init__(self) -> None:
        self.seen: list[bool] = []
        self.state = "well"
        self.since_s = 0.0
        self.pauses = 0

    @property
    def pause_s(self) -> float:
        return SETTINGS.guard_pause_s * min(2.0 ** (self.pauses - 1), LONGEST)

    def admit(self, now_s: float) -> bool:
        if self.state == "well":
            return True
        if now_s - self.since_s < self.pause_s:
            return False
        self.state, self.since_s = "trying", now_s
        return True

    def observe(self, failed: bool, now_s: float) -> str | None:
        if self.state == "paused":
            return None
        if self.state == "trying" and not failed:
            self.seen, self.state, self.pauses = [], "well", 0
            return "resumed"
        self.seen.append(failed)
        in_row = len(self.seen) >= 4 and all(self.seen[-4:])
        often = len(self.seen) >= 6 and sum(self.seen[-6:]) >= 3
        if self.state == "well" and not (in_row or often):
            return None
        self.state, self.since_s, self.pauses = "paused", now_s, self.pauses + 1
        return "paused"


steps = st.tuples(st.sampled_from(MODELS), st.sampled_from(["admit", "good", "bad", "bad"]), st.integers(0, 30))


@given(st.lists(steps, max_size=120))
def test_whatever_happens_it_says_what_a_naive_one_says(taken: list[tuple[str, str, int]]) -> None:
    """Each model by itself, at any times: the same pauses, the same ends of them, the same requests let through."""
    guard, naive, now_s = Guard(SETTINGS), {model: Naive() for model in MODELS}, 0.0
    for model, step, later_s in taken:
        now_s += later_s
        if step == "admit":
            refused = guard.paused(model, now_s)
            assert guard.admit(model, now_s) == naive[model].admit(now_s) == (not refused)
        else:
            assert guard.observe(model, step == "bad", now_s) == naive[model].observe(step == "bad", now_s)
        assert (guard.until_s(model) is None) == (naive[model].state == "well")


def test_one_model_that_fails_leaves_the_others_alone() -> None:
    """Nobody else's requests wait."""
    guard = paused_guard()
    assert guard.paused("a", 1.0)
    assert not guard.paused("b", 1.0)
    assert guard.admit("b", 1.0)


def test_a_success_in_between_begins_the_row_anew_but_not_the_window() -> None:
    """Half of the last six is too many, in whatever order."""
    guard = Guard(SETTINGS)
    said = [guard.observe("a", bad, 0.0) for bad in (True, False, True, False, False, True)]
    assert said == [None] * 5 + ["paused"]


def test_after_the_pause_exactly_one_request_is_let_through() -> None:
    """Its success ends the pause, and nothing of before is counted any more."""
    guard = paused_guard()
    assert guard.until_s("a") == 10.0
    assert not guard.admit("a", 9.9)
    assert not guard.paused("a", 10.0)
    assert [guard.admit("a", 10.0), guard.admit("a", 10.0), guard.admit("a", 15.0)] == [True, False, False]
    assert guard.observe("a", False, 16.0) == "resumed"
    assert guard.until_s("a") is None
    assert [guard.observe("a", True, 17.0) for _ in range(3)] == [None] * 3


def test_each_failure_of_the_one_doubles_the_pause_up_to_a_bound() -> None:
    """And it is said each time, so that the alarm goes on."""
    guard, now_s, waits = paused_guard(), 0.0, list[float]()
    for _ in range(7):
        until_s = guard.until_s("a")
        assert until_s is not None
        waits.append(until_s - now_s)
        now_s = until_s
        assert guard.admit("a", now_s)
        assert guard.observe("a", True, now_s) == "paused"
    assert waits == [10, 20, 40, 80, 160, 160, 160]


def test_what_was_under_way_when_the_pause_began_changes_nothing() -> None:
    """Neither ends it early nor makes it longer."""
    guard = paused_guard()
    assert [guard.observe("a", bad, 1.0) for bad in (True, False, True)] == [None] * 3
    assert guard.until_s("a") == 10.0


def test_a_request_that_is_never_heard_of_again_is_followed_by_another() -> None:
    """It may expire, be cancelled, or go to another worker with its partition."""
    guard = paused_guard()
    assert guard.admit("a", 12.0)
    assert not guard.admit("a", 21.9)
    assert guard.admit("a", 22.0)


@pytest.mark.parametrize("code", CODES)
def test_only_the_codes_of_a_failing_model_count_against_it(code: str) -> None:
    """What is wrong with a request, or came too late, says nothing."""
    telling = code in {"processing_failed", "model_unavailable"}
    assert failed(make_failed(code)) is (True if telling else None)


def test_a_request_with_one_good_item_is_a_good_one() -> None:
    """Poison among sound items is not the model's fault."""
    broken, long = Failure(0, "processing_failed", ""), Failure(1, "too_long", "")
    assert failed(make_embedded()) is False
    assert failed(make_embedded(failures=[broken])) is True
    assert failed(Scored(id="id", count=3, failures=[broken, long])) is False
    assert failed(Scored(id="id", count=2, failures=[broken, long])) is True
    assert failed(Scored(id="id", count=1, failures=[long])) is None
