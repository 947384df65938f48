"""How is blocking code called from a loop, always in the same thread?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Alone:
    """One thread for one adapter: what was opened in it, is used and closed in it.

    A call that is under way cannot be called off: whoever stops waiting for it waits for its end all the same, so that
    nothing is closed under it.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"embedmq-{name}")
        self.failed = False
        """Whether a call has raised, also one that nobody waited for any more."""
        self._began_s: float | None = None

    async def call(self, work: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run it there, after what was asked before."""
        future = asyncio.wrap_future(self._executor.submit(self._run, work, *args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait({future})
            if not future.cancelled():
                future.exception()  # seen: `failed` knows of it
            raise

    def busy_s(self) -> float:
        """How long the call under way has taken."""
        began_s = self._began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def stop(self) -> None:
        """End the thread after its last call."""
        self._executor.shutdown(wait=False)

    def _run(self, work: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        self._began_s = time.monotonic()
        try:
            return work(*args, **kwargs)
        except BaseException:
            self.failed = True
            raise
        finally:
            self._began_s = None
