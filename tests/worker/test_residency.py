"""Models come and go within their budget, by use, without starving anybody: on a simulated clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest
from embedmq_worker.config import Worker
from embedmq_worker.errors import CheckpointTooLarge
from embedmq_worker.residency import (
    IDLE_AFTER_S,
    LOADS_AT_A_TIME,
    Demand,
    Plan,
    View,
    check_pinned,
    cooldown_s,
    is_thrashing,
    least_missed,
    plan,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import structs

WORKER = Worker(model_wait_s=10.0)
NOW_S = 1000.0


def resident(
    size: int = 1, *, used_s: float = 0.0, loaded_s: float = 0.0, pinned: bool = False, leases: int = 0
) -> View:
    return View(
        bytes=size, state="resident", pinned=pinned, leases=leases, last_use_s=used_s, loaded_at_s=loaded_s, load_s=2.0
    )


def absent(size: int = 1, *, load_s: float = 2.0, cools_until_s: float = 0.0) -> View:
    return View(bytes=size, load_s=load_s, cools_until_s=cools_until_s)


def waiting(model: str, for_s: float) -> Demand:
    return Demand(model, NOW_S - for_s, 1)


def decide(
    models: Mapping[str, View], *demands: Demand, budget: int = 3, now_s: float = NOW_S, worker: Worker = WORKER
) -> Plan:
    return plan(models, demands, budget, now_s, worker)


def test_where_there_is_room_a_model_is_loaded_at_once() -> None:
    """Its first request has not waited at all."""
    assert decide({"a": resident(2), "b": absent()}, waiting("b", 0)).load == ("b",)


def test_the_oldest_request_loads_first_and_only_so_many_models_load_at_a_time() -> None:
    """One slow download holds up nobody, and no more than two share the disk."""
    models = {"a": absent(), "b": absent(), "c": absent()}
    demands = [waiting("a", 1), waiting("b", 3), waiting("c", 2)]
    assert decide(models, *demands).load == ("b", "c")
    models |= {"b": structs.replace(absent(), state="loading")}
    assert decide(models, *demands).load == ("c",)
    assert LOADS_AT_A_TIME == 2


def test_the_idle_model_that_was_used_longest_ago_goes_not_the_one_loaded_longest_ago() -> None:
    """A hot model is always the oldest in memory: whoever counts from the load evicts the hottest."""
    models = {
        "hot": resident(loaded_s=1, used_s=NOW_S - 5),
        "once": resident(loaded_s=900, used_s=NOW_S - 50),
        "new": absent(3),
    }
    assert decide(models | {"new": absent(2)}, waiting("new", 5)).evict == ("once",)
    assert set(decide(models, waiting("new", 5)).evict) == {"hot", "once"}


def test_nobody_goes_before_the_request_has_waited_as_long_as_the_load_takes() -> None:
    """Ski rental; and the plan says when to look again."""
    models = {"a": resident(3), "b": absent(load_s=2.0)}
    early = decide(models, waiting("b", 1.5))
    assert (early.load, early.evict) == ((), ())
    assert early.next_s == NOW_S + 0.5
    assert decide(models, waiting("b", 2.0)).evict == ("a",)


def test_the_moment_between_two_batches_is_not_idleness() -> None:
    """A busy model that has nothing waiting right now is left alone."""
    found = decide({"a": resident(3, used_s=NOW_S - 0.3), "b": absent()}, waiting("b", 5))
    assert found.evict == ()
    assert found.next_s == pytest.approx(NOW_S - 0.3 + IDLE_AFTER_S)


def test_no_more_go_than_are_needed() -> None:
    """A large one that has to go makes a small one's going needless."""
    models = {"small": resident(1, used_s=1), "large": resident(2, used_s=2), "new": absent(2)}
    assert decide(models, waiting("new", 5)).evict == ("large",)


def test_a_model_with_work_goes_only_for_one_who_waited_too_long_and_only_after_its_turn() -> None:
    """The one longest in memory first, so that everybody gets a turn of `model_wait_s`."""
    models = {"a": resident(loaded_s=NOW_S - 30), "b": resident(loaded_s=NOW_S - 20), "new": absent()}
    busy = [waiting("a", 0.1), waiting("b", 0.2)]
    assert decide(models, *busy, waiting("new", 9.9), budget=2).evict == ()
    assert decide(models, *busy, waiting("new", 10), budget=2).evict == ("a",)
    fresh = {name: structs.replace(view, loaded_at_s=NOW_S - 4) for name, view in models.items()}
    found = decide(fresh, *busy, waiting("new", 10), budget=2)
    assert found.evict == ()
    assert found.next_s == NOW_S + 6


def test_a_model_that_has_not_served_what_it_was_loaded_for_stays() -> None:
    """Else two models could evict each other for ever, and nobody's request be computed."""
    unserved = structs.replace(resident(3, loaded_s=NOW_S - 50), served=False)
    assert decide({"a": unserved, "b": absent()}, waiting("a", 40), waiting("b", 60)).evict == ()
    assert decide({"a": unserved, "b": absent()}, waiting("b", 60)).evict == ("a",), "nobody wants it any more"


def test_a_busy_model_may_be_told_to_go_while_a_batch_runs_an_idle_one_not() -> None:
    """A model that is never without a batch would never go otherwise; its memory is free when the batch is done."""
    models = {"a": resident(3, leases=1, loaded_s=1), "b": absent()}
    assert decide(models, waiting("b", 9)).evict == ()
    assert decide(models, waiting("b", 11)).evict == ("a",)


def test_what_is_leaving_is_room_to_come_for_the_oldest_and_nobody_goes_twice_over() -> None:
    """Nor does a younger request take the room that was made for an older one."""
    models = {"a": structs.replace(resident(2), state="leaving"), "b": absent(3), "c": absent(1), "d": resident(0)}
    found = decide(models, waiting("b", 5), waiting("c", 1))
    assert (found.load, found.evict) == ((), ())


def test_younger_requests_do_not_overtake_one_that_waited_too_long() -> None:
    """Small models could fill every gap before it is large enough for a large one."""
    models = {"a": resident(2, loaded_s=NOW_S - 5), "large": absent(3), "small": absent(1)}
    found = decide(models, waiting("a", 0), waiting("large", 11), waiting("small", 1))
    assert found.load == ()
    assert decide(models, waiting("a", 0), waiting("large", 1), waiting("small", 1)).load == ("small",)


def test_a_model_that_can_never_fit_is_named_at_once_and_evicts_nobody() -> None:
    """Instead of waiting for ever."""
    models = {"pin": resident(2, pinned=True), "a": resident(1), "b": absent(2)}
    found = decide(models, waiting("b", 60))
    assert (found.too_large, found.evict, found.load) == (("b",), (), ())


def test_pinned_models_that_exceed_the_budget_are_refused_with_both_figures() -> None:
    """At start, before anything is loaded."""
    with pytest.raises(CheckpointTooLarge, match=r"a, b take 5 bytes, memory_budget_bytes is 4"):
        check_pinned({"a": resident(3, pinned=True), "b": resident(2, pinned=True), "c": resident(9)}, 4)
    check_pinned({"a": resident(3, pinned=True)}, 3)


def test_a_model_that_proves_larger_than_estimated_costs_the_least_missed_its_place() -> None:
    """Idle ones first, whatever was promised; the budget is kept."""
    models = {"new": resident(2, used_s=NOW_S), "idle": resident(1, used_s=3), "busy": resident(1, used_s=2)}
    assert decide(models, waiting("busy", 0), waiting("new", 3)).evict == ("idle",)


def test_an_unused_model_goes_after_idle_evict_s_if_that_is_set() -> None:
    """Without it, only others' needs unload a model."""
    models = {"a": resident(used_s=NOW_S - 60), "b": resident(used_s=NOW_S - 50), "p": resident(pinned=True)}
    found = decide(models, worker=Worker(idle_evict_s=60))
    assert found.evict == ("a",)
    assert found.next_s == NOW_S + 10
    assert decide(models).evict == ()
    assert decide(models).next_s is None


def test_a_model_that_failed_cools_down_first() -> None:
    """And the plan says until when."""
    found = decide({"a": absent(cools_until_s=NOW_S + 3)}, waiting("a", 60))
    assert (found.load, found.next_s) == ((), NOW_S + 3)


def test_when_memory_runs_out_the_least_recently_used_model_without_work_is_named() -> None:
    """Never the one that ran out, a pinned or a leased one, or one with work."""
    models = {
        "me": resident(used_s=0),
        "pin": resident(pinned=True),
        "leased": resident(leases=1),
        "busy": resident(),
        "x": resident(used_s=9),
        "y": resident(used_s=8),
    }
    assert least_missed(models, [waiting("busy", 0)], "me") == "y"
    assert least_missed({"me": resident()}, [], "me") is None


def test_four_loads_in_five_minutes_are_thrashing() -> None:
    """The budget is too small for what is asked."""
    assert is_thrashing([0, 10, 20, 30], 200)
    assert not is_thrashing([0, 10, 20, 30], 301)
    assert not is_thrashing([10, 20, 30], 200)


def test_failures_are_tried_again_later_and_later() -> None:
    """Up to a limit, and not in step with others."""
    assert [cooldown_s(n, 0.0) for n in (1, 2, 3, 9)] == [1.0, 2.0, 4.0, 30.0]
    assert cooldown_s(2, 1.0) == 1.0


SIZES = {"a": 2, "b": 2, "c": 3, "d": 1, "e": 5, "f": 1, "pin": 1}
LOADS_S = {"a": 1.0, "b": 4.0, "c": 0.5, "d": 2.0, "e": 3.0, "f": 0.1, "pin": 0.0}
BUDGET = 6
BATCH_S = 0.05
CLOSE_S = 0.02


@dataclass
class House:
    """One worker on a simulated clock: loads, closes and batches take time; the oldest work in memory goes first."""

    models: dict[str, View] = field(
        default_factory=lambda: {
            name: View(bytes=size, load_s=LOADS_S[name], pinned=name == "pin") for name, size in SIZES.items()
        }
    )
    work: dict[str, list[float]] = field(default_factory=dict)
    now_s: float = 0.0
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    numbers: count[int] = field(default_factory=count)
    due_s: dict[str, float] = field(default_factory=dict)
    busy: bool = False
    served: int = 0

    def change(self, name: str, **fields: object) -> None:
        self.models[name] = structs.replace(self.models[name], **fields)

    def arrive(self, name: str) -> None:
        if name not in self.work and self.models[name].state != "resident":
            self.expect(name)
        self.work.setdefault(name, []).append(self.now_s)
        self.turn()

    def expect(self, name: str) -> None:
        """It is to begin to load within the bound that `residency` states."""
        ahead = sum(other != name for other in self.work)
        turn_s = WORKER.model_wait_s + max(LOADS_S.values()) + (len(SIZES) + 2) * BATCH_S + CLOSE_S
        self.due_s[name] = self.now_s + WORKER.model_wait_s + (ahead + 1) * turn_s

    def advance(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.events and self.events[0][0] <= end_s:
            self.now_s, _, happen = heapq.heappop(self.events)
            happen()
            self.turn()
        self.now_s = end_s

    def after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now_s + seconds, next(self.numbers), happen))

    def turn(self) -> None:
        """Whatever can begin now."""
        self.compute()
        found = plan(self.models, self.demands(), BUDGET, self.now_s, WORKER)
        for name in found.evict:
            self.evict(name)
        for name in found.load:
            assert self.models[name].state == "absent"
            assert name in self.work, "loaded for nobody"
            self.due_s.pop(name)
            self.change(name, state="loading")
            self.after(LOADS_S[name], lambda name=name: self.loaded(name))  # type: ignore[misc]  # a default binds it
        assert not found.too_large
        if found.next_s is not None:
            assert found.next_s > self.now_s, "a plan that is to be made again at once would spin"
            self.after(found.next_s - self.now_s, lambda: None)

    def demands(self) -> list[Demand]:
        return [Demand(name, times[0], len(times)) for name, times in self.work.items()]

    def compute(self) -> None:
        ready = [name for name in self.work if self.models[name].state == "resident"]
        if self.busy or not ready:
            return
        name = min(ready, key=lambda name: self.work[name][0])
        self.served += len(self.work.pop(name))
        self.busy = True
        self.change(name, leases=1, served=True, last_use_s=self.now_s)
        self.after(BATCH_S, lambda: self.computed(name))

    def computed(self, name: str) -> None:
        self.busy = False
        self.change(name, leases=0, last_use_s=self.now_s)
        if self.models[name].state == "leaving":
            self.close(name)

    def evict(self, name: str) -> None:
        view = self.models[name]
        assert view.state == "resident"
        assert not view.pinned
        assert view.served or name not in self.work
        self.change(name, state="leaving")
        if name in self.work:  # it has work that begins to wait for it anew
            self.expect(name)
        if not view.leases:
            self.close(name)

    def close(self, name: str) -> None:
        assert not self.models[name].leases, "closed under a batch"
        self.after(CLOSE_S, lambda: self.change(name, state="absent"))

    def loaded(self, name: str) -> None:
        self.change(name, state="resident", served=False, loaded_at_s=self.now_s, last_use_s=self.now_s)


class Residency(RuleBasedStateMachine):
    """Arrivals of any kind: whatever happens, the invariants hold."""

    def __init__(self) -> None:
        super().__init__()
        self.house = House()
        self.arrived = 0

    @rule(names=st.lists(st.sampled_from(sorted(SIZES)), min_size=1, max_size=7))
    def arrive(self, names: Sequence[str]) -> None:
        for name in names:
            self.house.arrive(name)
            self.arrived += 1

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 4.0]))
    def advance(self, seconds: float) -> None:
        self.house.advance(seconds)

    @rule(names=st.lists(st.sampled_from(sorted(SIZES)), min_size=3, max_size=7), rounds=st.integers(1, 200))
    def hammer(self, names: Sequence[str], rounds: int) -> None:
        """Some models get no rest."""
        for _ in range(rounds):
            self.arrive(names)
            self.house.advance(0.1)

    def teardown(self) -> None:
        """When no more comes, everything is computed, and nobody asks to be woken up without end."""
        self.house.advance(200)
        assert self.house.served == self.arrived
        assert not self.house.work
        assert not self.house.events

    @invariant()
    def the_budget_is_kept(self) -> None:
        assert sum(view.bytes for view in self.house.models.values() if view.state != "absent") <= BUDGET

    @invariant()
    def every_model_that_is_waited_for_begins_to_load_in_time(self) -> None:
        """Within the bound that `residency` states, counted at the arrival of the first request for it."""
        for name, due_s in self.house.due_s.items():
            assert self.house.now_s <= due_s, (name, self.house.models[name])


TestResidency = Residency.TestCase
TestResidency.settings = settings(max_examples=16, stateful_step_count=15, deadline=None)
