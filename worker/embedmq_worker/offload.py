"""How does the event loop wait for something slow without being held up, or held at the end of the process?"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Offloaded(threading.Thread):
    """A thread of `in_thread`."""


async def in_thread(call: Callable[[], T], name: str) -> T:
    """Run a call in a thread of its own and wait for it.

    Unlike an executor's, the thread keeps no process alive: a download of minutes does not hold up a stop.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return  # nobody waits any more
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]  # without an error it is a T
        else:
            future.set_exception(error)

    def run() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = call()
        except StopIteration as error:  # a future takes any exception but this one
            failure = RuntimeError(f"StopIteration: {error}")
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, failure)

    Offloaded(target=run, name=name, daemon=True).start()
    return await future


def leave() -> None:
    """End the process here and now, as a success, if a call still runs; else return.

    Python ends a thread that it finds inside of torch in a way that C++ takes for a crash, and aborts the process.
    """
    if any(isinstance(thread, Offloaded) for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
