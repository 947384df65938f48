"""How does somebody in front of a terminal see that a start is under way?"""

from __future__ import annotations

import sys
from typing import NoReturn, Protocol

from tqdm import tqdm


class Progress(Protocol):
    """Called at each step, with `done` of `total` where a step has parts."""

    def __call__(self, step: str, done: int = 0, total: int = 0) -> None: ...


def silent(step: str, done: int = 0, total: int = 0) -> None:
    """For programs and pipes."""


class TerminalProgress:
    """Steps as lines on stderr, parts as a bar; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None

    def __call__(self, step: str, done: int = 0, total: int = 0) -> None:
        if not sys.stderr.isatty():
            return
        if not total:
            print(step, file=sys.stderr)
            return
        if self._bar is None:
            self._bar = tqdm(total=total, desc=step, unit="file", file=sys.stderr)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()
            self._bar = None
