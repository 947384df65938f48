"""How is a bulk job's progress shown: on a terminal, to a program, in a log?"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn, Protocol, TextIO

import click
from tqdm import tqdm

from embedmq.bulk.status import JobStatus, State, encode
from embedmq.cli.job_rows import clean, left, rate, result

REDRAW_S: Final = 0.1
LINE_PERIOD_S: Final = 1.0
MESSAGE_CHARACTERS: Final = 60
"""Of a job's message, on its bar."""
USUAL_COLUMNS: Final = 80
COUNTED: Final = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} rows{postfix}"
UNCOUNTED: Final = "{desc} {n_fmt} rows{postfix}"
COLOURS: Final[dict[State, str]] = {
    "paused": "yellow",
    "waiting": "yellow",
    "done": "green",
    "failed": "red",
    "cancelled": "red",
    "interrupted": "red",
}


class Progress(Protocol):
    """Told how a job is, as often as one likes."""

    def update(self, status: JobStatus) -> None:
        """How it is now."""

    def note(self, text: str) -> None:
        """A line that is to be read, beside what moves; always on `stream`."""

    def close(self) -> None:
        """Show how it was in the end."""


@contextmanager
def show(
    *, json: bool, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Progress]:
    """With `json` a status on each line of standard output, about every `LINE_PERIOD_S`; else on `stream` (standard
    error) a bar where it is a terminal, and where it is none a line at the beginning and one at the end.
    """
    out: TextIO = stream or sys.stderr
    progress: Progress = Lines(out, clock) if json else Bar(out, clock) if out.isatty() else Ends(out)
    try:
        yield progress
    finally:
        progress.close()


class Lines:
    """For programs."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._rhythm = Rhythm(LINE_PERIOD_S, clock)

    def update(self, status: JobStatus) -> None:
        if self._rhythm.is_due(status):
            click.echo(encode(status))

    def note(self, text: str) -> None:
        click.echo(clean(text), file=self._stream)

    def close(self) -> None:
        if (status := self._rhythm.unseen) is not None:
            click.echo(encode(status))


class Ends:
    """For logs: how it began, and how it ended."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._status: JobStatus | None = None

    def update(self, status: JobStatus) -> None:
        if self._status is None:
            way = f"{status.model}: {status.source} -> {status.sink}"
            self.note(f"embedmq: job {status.name} begins: {way}: {result(status)}")
        self._status = status

    def note(self, text: str) -> None:
        click.echo(clean(text), file=self._stream)

    def close(self) -> None:
        if (status := self._status) is not None:
            self.note(f"embedmq: job {status.name} {status.state}: {result(status)}")


class Bar:
    """For somebody who looks on: one line that is drawn anew, as wide as the terminal is."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._rhythm = Rhythm(REDRAW_S, clock)
        self._coloured = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._bar: tqdm[NoReturn] | None = None

    def update(self, status: JobStatus) -> None:
        if self._rhythm.is_due(status):
            self._draw(status)

    def note(self, text: str) -> None:
        with tqdm.external_write_mode(file=self._stream):
            click.echo(clean(text), file=self._stream)

    def close(self) -> None:
        if (status := self._rhythm.unseen) is not None:
            self._draw(status)
        if self._bar is not None:
            self._bar.close()

    def _draw(self, status: JobStatus) -> None:
        if self._bar is None:
            self._bar = tqdm(
                file=self._stream,
                ncols=width(self._stream),
                bar_format=UNCOUNTED,
                desc=clean(status.name),
                initial=status.rows,
            )
        bar, total = self._bar, status.rows_total
        bar.ncols = width(self._stream)
        bar.n = status.rows
        bar.total = None if total is None else max(total, status.rows)
        bar.bar_format = COUNTED if bar.total else UNCOUNTED
        bar.desc = clean(status.name)
        bar.postfix = ", ".join(facts(status))
        bar.colour = COLOURS.get(status.state) if self._coloured else None
        bar.refresh()


def width(stream: TextIO) -> int:
    """How many columns a line may take: one less than there are, and a usual number where a terminal says it has none,
    with which tqdm would never come to an end.
    """
    return (os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS) - 1


class Rhythm:
    """Which updates are shown: those with news of the state, and else one in a period."""

    def __init__(self, period_s: float, clock: Callable[[], float]) -> None:
        self._period_s = period_s
        self._clock = clock
        self._shown_s = 0.0
        self._state: State | None = None
        self.unseen: JobStatus | None = None
        """The last update, if it was not shown."""

    def is_due(self, status: JobStatus) -> bool:
        """Whether to show this one."""
        now_s = self._clock()
        if status.state == self._state and now_s - self._shown_s < self._period_s:
            self.unseen = status
            return False
        self._state, self._shown_s, self.unseen = status.state, now_s, None
        return True


def facts(status: JobStatus) -> Iterator[str]:
    """What stands behind the bar, the most important first, since a narrow terminal cuts the end off."""
    if status.state != "running":
        message = clean(status.message)
        short = message if len(message) <= MESSAGE_CHARACTERS else message[:MESSAGE_CHARACTERS] + "…"
        yield f"{status.state}: {short}" if short else status.state
    if speed := rate(status):
        yield speed
    if status.state == "running" and (rest := left(status)):
        yield f"{rest} left"
    if status.rows_failed:
        yield f"{status.rows_failed:,} failed"
