"""What holds up the event loop?"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import FrameType
from typing import Final

from embedmq_worker.metrics import Metrics

MOST_FRAMES: Final = 40
"""Of a deep stack, only as many of the innermost are logged."""
LOOKS: Final = 4
"""How often the loop is looked at in the time that it may stand still."""

log = logging.getLogger(__name__)


class Watch:
    """A thread that asks the loop to turn, and names what it does when it does not: the innermost line last, never a
    value of a variable.

    A stack that ends where the loop waits for events tells of the whole process standing still (suspended, or a
    library that keeps the interpreter to itself), not of that line.
    """

    def __init__(self, blocked_s: float, metrics: Metrics) -> None:
        self._blocked_s = blocked_s
        self._metrics = metrics
        self._turned = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch the loop that runs in this thread."""
        loop, watched = asyncio.get_running_loop(), threading.get_ident()
        self._thread = threading.Thread(target=self._watch, args=(loop, watched), name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        self._turned.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, loop: asyncio.AbstractEventLoop, watched: int) -> None:
        while not self._stopped.wait(self._blocked_s / LOOKS):
            asked_s = time.monotonic()
            self._turned.clear()
            if self._stopped.is_set():
                return  # in the moment before, and whoever stopped it waits
            try:
                loop.call_soon_threadsafe(self._turned.set)
            except RuntimeError:
                return  # the loop is closed
            if self._turned.wait(self._blocked_s):
                self._metrics.observe("loop_delay_seconds", time.monotonic() - asked_s)
                continue
            self._blocked(sys._current_frames().get(watched), time.monotonic() - asked_s)
            self._turned.wait()
            self._metrics.observe("loop_delay_seconds", time.monotonic() - asked_s)
            if not self._stopped.is_set():
                log.warning("loop_turned", extra={"seconds": round(time.monotonic() - asked_s, 3)})

    def _blocked(self, innermost: FrameType | None, seconds: float) -> None:
        self._metrics.count("loop_blocked_total")
        log.error("loop_blocked", extra={"seconds": round(seconds, 3), "stack": describe(innermost)})


def describe(innermost: FrameType | None) -> list[str]:
    """A stack as `file:line function`, the innermost last."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_stack(innermost)] if innermost else []
    return [f"{code.co_filename}:{line} {code.co_qualname}" for code, line in reversed(frames[:MOST_FRAMES])]
