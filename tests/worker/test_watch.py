"""A loop that stands still is named in the log, with the line that holds it up."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from embedmq_worker.metrics import Metrics
from embedmq_worker.watch import MOST_FRAMES, Watch

BLOCKED_S = 0.05


class Heard(logging.Handler):
    """The events of the watch, as they come: `blocked` is set by the first."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.blocked = threading.Event()
        self.turned = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append({"event": record.getMessage(), **vars(record)})
        (self.blocked if record.getMessage() == "loop_blocked" else self.turned).set()


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler, logger = Heard(), logging.getLogger("embedmq_worker.watch")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def hold_up(watch: Watch, until: threading.Event, secret: str) -> None:
    """What no coroutine may do, watched from its first line on: nothing before it can be taken for it."""
    watch.start()
    assert until.wait(60), f"nobody noticed {len(secret)} letters"


def dig(depth: int, watch: Watch, until: threading.Event) -> None:
    if depth:
        dig(depth - 1, watch, until)
    else:
        hold_up(watch, until, "")


async def test_what_holds_up_the_loop_is_named_once_and_so_is_its_end(heard: Heard) -> None:
    """The stack ends in the line that waits, in the function that has it; values of variables are not in the log."""
    metrics = Metrics()
    watch = Watch(BLOCKED_S, metrics)
    hold_up(watch, heard.blocked, "canary")
    assert await asyncio.to_thread(heard.turned.wait, 60)
    watch.stop()
    blocked, turned = heard.events[:2]
    assert (blocked["event"], blocked["levelname"], turned["event"]) == ("loop_blocked", "ERROR", "loop_turned")
    assert turned["seconds"] >= blocked["seconds"] >= BLOCKED_S
    mine = [line for line in blocked["stack"] if line.startswith(__file__)]
    assert mine[-1].endswith(" hold_up")
    assert "canary" not in str(heard.events)
    assert metrics.registry.get_sample_value("embedmq_loop_blocked_total") == sum(
        event["event"] == "loop_blocked" for event in heard.events
    )


async def test_of_a_deep_stack_the_innermost_frames_are_named(heard: Heard) -> None:
    """One event is one line of the log, and no longer than that."""
    watch = Watch(BLOCKED_S, Metrics())
    dig(3 * MOST_FRAMES, watch, heard.blocked)
    watch.stop()
    stack = heard.events[0]["stack"]
    assert len(stack) == MOST_FRAMES
    assert any(line.endswith(" hold_up") for line in stack)


async def test_a_loop_that_turns_is_left_alone(heard: Heard) -> None:
    """However much it has to do, and also after the end of the watch."""
    watch = Watch(60.0, Metrics())
    watch.start()
    for _ in range(1_000):
        await asyncio.sleep(0)
    watch.stop()
    assert heard.events == []
    assert "watch" not in [thread.name for thread in threading.enumerate()]
