"""What is held is bounded in bytes, items and tokens, and the bulk lane leaves room for the interactive one."""

from __future__ import annotations

import asyncio

import pytest
from embedmq_schemas.requests import LANES, Lane
from embedmq_worker.config import Worker
from embedmq_worker.jobs import Cost
from embedmq_worker.room import NOTHING, Room
from hypothesis import given
from hypothesis import strategies as st

MIB = 1024 * 1024


def make_room() -> Room:
    return Room(Worker(max_in_flight_bytes=MIB, max_in_flight_items=100, max_in_flight_tokens=1_000, bulk_share=0.5))


@pytest.mark.parametrize(
    "cost", [Cost(MIB), Cost(1, items=100), Cost(1, tokens=1_000)], ids=["bytes", "items", "tokens"]
)
def test_each_bound_alone_keeps_the_next_request_out(cost: Cost) -> None:
    """One byte, item or token too many waits."""
    room = make_room()
    assert room.enter(cost, "interactive")
    assert not room.enter(Cost(1, 1, 1), "interactive")
    room.leave(cost, "interactive")
    assert room.held == NOTHING
    assert room.enter(Cost(1, 1, 1), "interactive")


def test_bulk_fills_its_share_and_leaves_the_rest_to_interactive() -> None:
    """A backlog never keeps a live request out."""
    room = make_room()
    assert room.enter(Cost(MIB // 2), "bulk")
    assert not room.enter(Cost(1), "bulk")
    assert room.enter(Cost(MIB // 2), "interactive")


def test_a_flood_of_live_requests_leaves_bulk_a_door() -> None:
    """However many interactive requests take every place that is freed, bulk keeps moving."""
    room = make_room()
    small = Cost(MIB // 100)
    while room.enter(small, "interactive"):
        pass
    assert room.enter(small, "bulk")
    room.leave(small, "bulk")
    room.leave(small, "interactive")
    assert room.enter(small, "interactive")
    assert room.enter(small, "bulk")


@pytest.mark.parametrize("lane", LANES)
def test_a_request_larger_than_the_room_is_admitted_alone(lane: Lane) -> None:
    """It would wait for ever otherwise, and its partition with it."""
    room = make_room()
    huge = Cost(10 * MIB, 1_000, 100_000)
    small = Cost(1)
    assert room.enter(small, "interactive")
    assert not room.enter(huge, lane)
    room.leave(small, "interactive")
    assert room.enter(huge, lane)
    assert not room.enter(Cost(1), "interactive")


async def test_who_waits_enters_when_room_is_freed() -> None:
    """Both lanes may wait at once; each enters when there is room for it."""
    room = make_room()
    first = Cost(MIB)
    assert room.enter(first, "interactive")
    bulk = asyncio.ensure_future(room.wait(Cost(MIB // 2), "bulk"))
    interactive = asyncio.ensure_future(room.wait(Cost(MIB // 2), "interactive"))
    await asyncio.wait([bulk, interactive], timeout=0.01)
    assert not bulk.done()
    assert not interactive.done()
    room.leave(first, "interactive")
    await asyncio.gather(bulk, interactive)
    assert room.held.bytes == MIB


async def test_an_estimate_that_shrinks_lets_the_next_one_in() -> None:
    """Tokens are estimated by characters until they are counted: the count frees what was too much."""
    room = make_room()
    guess, counted = Cost(1, 1, 1_000), Cost(1, 1, 10)
    assert room.enter(guess, "interactive")
    waiting = asyncio.ensure_future(room.wait(Cost(1, 1, 500), "interactive"))
    await asyncio.wait([waiting], timeout=0.01)
    room.change(guess, counted, "interactive")
    await asyncio.wait_for(waiting, 60)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2 * MIB), st.integers(0, 150), st.integers(0, 1_500), st.sampled_from(LANES), st.booleans()
        ),
        max_size=60,
    )
)
def test_bounds_hold_for_any_arrivals(arrivals: list[tuple[int, int, int, Lane, bool]]) -> None:
    """Held never exceeds a bound unless one request alone does, and the peak remembers the most."""
    room, held, peak = make_room(), list[tuple[Cost, Lane]](), 0
    for size, items, tokens, lane, leave in arrivals:
        cost = Cost(size + 1, items, tokens)
        if room.enter(cost, lane):
            held.append((cost, lane))
        total = [sum(c.bytes for c, _ in held), sum(c.items for c, _ in held), sum(c.tokens for c, _ in held)]
        assert [room.held.bytes, room.held.items, room.held.tokens] == total
        assert len(held) == 1 or all(x <= limit for x, limit in zip(total, (MIB, 100, 1_000), strict=True))
        peak = max(peak, total[0])
        assert room.peak_bytes == peak
        if leave and held:
            room.leave(*held.pop(0))
