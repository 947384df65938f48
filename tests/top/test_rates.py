"""What a worker says it did in the last minute."""

from __future__ import annotations

import random

import pytest
from embedmq_worker.rates import WINDOW_S, Busy, Done, Rate, Rates


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_rates_are_over_the_last_minute_and_nothing_is_left_of_what_was_before() -> None:
    """Against sums over everything that was ever added."""
    clock, chance = Clock(), random.Random(7)
    rates, added = Rates(clock), list[tuple[int, str, Done]]()
    for _ in range(2_000):
        clock.now_s += chance.choice([0.0, 0.01, 0.4, 3.0])
        done = Done(chance.randrange(5), chance.randrange(50), chance.randrange(2), 3, 4)
        model = chance.choice("abc")
        rates.add(model, done)
        added.append((int(clock.now_s), model, done))
    found = rates.now()
    recent = [(model, done) for second, model, done in added if second > int(clock.now_s) - WINDOW_S]
    for model in "abc":
        mine = [done for name, done in recent if name == model]
        assert found[model].items_per_s == pytest.approx(sum(done.items for done in mine) / WINDOW_S, abs=1e-3)
        assert found[model].tokens_per_s == pytest.approx(sum(done.tokens for done in mine) / WINDOW_S, abs=1e-3)
        assert found[model].batch_fill == 0.75
    clock.now_s += WINDOW_S + 1
    assert rates.now() == {}


def test_a_young_worker_is_judged_by_its_age() -> None:
    """Or it would seem slow for its first minute; of the first second nobody makes a thousand."""
    clock = Clock()
    rates = Rates(clock)
    rates.add("m", Done(items=10))
    assert rates.now()["m"] == Rate(10.0, 0.0, 0.0, None)
    clock.now_s += 10
    assert rates.now()["m"].items_per_s == 1.0


def test_busy_is_the_time_in_which_anything_was_under_way() -> None:
    """Two at once count once, what is still under way counts until now, and a minute later nothing is left."""
    clock = Clock()
    busy = Busy(clock)
    clock.now_s += 60
    assert busy.ratio() == 0
    with busy:
        clock.now_s += 6
        with busy:
            clock.now_s += 6
        assert busy.ratio() == pytest.approx(0.2)
        clock.now_s += 6
    assert busy.ratio() == pytest.approx(0.3)
    clock.now_s += 62
    assert busy.ratio() == 0


def test_a_device_that_never_rests_is_wholly_busy_and_never_more() -> None:
    """However long its batches, and however often somebody looks."""
    clock = Clock()
    busy = Busy(clock)
    for step_s in (0.3, 5.0, 90.0):
        for _ in range(300):
            with busy:
                clock.now_s += step_s
        assert busy.ratio() == pytest.approx(1.0, abs=0.02)
