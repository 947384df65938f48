"""What a worker says waits for each model and lane."""

from __future__ import annotations

import pytest
from embedmq_schemas.catalogue import LaneLag
from embedmq_schemas.names import Names
from embedmq_worker.lag import HALF_LIFE_S, UNSEEN_TOKENS, Shares, Stand, divide, lags
from hypothesis import given
from hypothesis import strategies as st

from tests.top.test_rates import Clock

NAMES = Names("p")
NOW_UNIX_MS = 1_000_000.0


def test_partitions_of_a_topic_are_summed_and_the_oldest_counts() -> None:
    """Read or unread; a lane whose topics are read here and where nothing waits is there, with nothing."""
    found = lags(
        [
            Stand("p.m.bulk", 5, 2, NOW_UNIX_MS - 4_000),
            Stand("p.m.bulk", 1, 0, NOW_UNIX_MS - 9_000),
            Stand("p.m.interactive", 0, 0, None),
            Stand("p.retry.10s", 7, 7, 0.0),
            Stand("strange", 7, 7, 0.0),
        ],
        NAMES,
        [],
        Shares(Clock()),
        {"m": 10.0},
        NOW_UNIX_MS,
    )
    assert found == {"m": {"bulk": LaneLag(records=8, tokens=80, oldest_s=9.0), "interactive": LaneLag()}}


def test_a_model_of_which_nothing_was_read_has_tokens_all_the_same() -> None:
    """Or nobody would start a worker for it; and a producer's clock that goes ahead makes no age below zero."""
    found = lags([Stand("p.m.bulk", 3, 0, NOW_UNIX_MS + 500)], NAMES, [], Shares(Clock()), {}, NOW_UNIX_MS)
    assert found["m"]["bulk"] == LaneLag(records=3, tokens=3 * UNSEEN_TOKENS, oldest_s=0.0)


def test_what_waits_on_a_shared_topic_is_divided_by_what_was_read_of_late() -> None:
    """Who was read of long ago counts for little, who is not served for nothing; the lane's age is everybody's."""
    clock = Clock()
    shares = Shares(clock)
    for _ in range(64):
        shares.count("bulk", "past")
    shares.count("bulk", "gone")
    clock.now_s += 6 * HALF_LIFE_S
    shares.decay()
    for _ in range(3):
        shares.count("bulk", "now")
    stands = [Stand("p.shared.bulk", 90, 10, NOW_UNIX_MS - 1_000)]
    found = lags(stands, NAMES, ["now", "past", "never"], shares, {"now": 2.0, "past": 2.0}, NOW_UNIX_MS)
    assert found["now"]["bulk"] == LaneLag(records=75, tokens=150, oldest_s=1.0)
    assert found["past"]["bulk"].records == 25
    assert found["never"] == {"bulk": LaneLag()}


def test_shared_models_for_which_nothing_waits_are_said_to_have_nothing() -> None:
    """Whoever scales workers by it takes silence for a failure, and lets none of them go."""
    stands = [Stand("p.shared.bulk", 0, 0, None)]
    found = lags(stands, NAMES, ["a", "b"], Shares(Clock()), {}, NOW_UNIX_MS)
    assert found == {"a": {"bulk": LaneLag()}, "b": {"bulk": LaneLag()}}


def test_shares_of_a_lane_that_stands_still_stay() -> None:
    """Redis may be away for days: what waits is still theirs."""
    clock = Clock()
    shares = Shares(clock)
    for model in ("a", "a", "a", "b"):
        shares.count("bulk", model)
    for _ in range(2_000):
        clock.now_s += 5
        shares.decay()
    assert shares.of("bulk", ["a", "b"])["a"] >= 0.5
    assert sum(shares.of("bulk", ["a", "b"]).values()) == pytest.approx(1)
    assert shares.of("interactive", ["a", "b"]) == {"a": 0.5, "b": 0.5}
    assert shares.of("interactive", []) == {}


@given(st.integers(0, 10**6), st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
def test_nothing_is_lost_when_it_is_divided(total: int, weights: list[int]) -> None:
    """The sum over models is the fleet's."""
    parts = {str(number): weight / sum(weights) for number, weight in enumerate(weights)}
    assert sum(divide(total, parts).values()) == total
