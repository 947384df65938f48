"""How is a dead letter shown, for people and for programs? Bytes from outside never reach the terminal as they are."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from embedmq.dead import DeadLetter

WIDTHS: Final = (36, 16, 17, 4, 5, 9, 8)
HEAD: Final = ("ID", "MODEL", "CODE", "AGE", "TRIED", "PLACE", "BYTES")
MAX_NAMES: Final = 1_000
"""Names counted each by itself; anybody can ask for models that do not exist, so there is no end to them."""
SHOWN_NAMES: Final = 10
SHOWN_CHARACTERS: Final = 500


def line(cells: tuple[object, ...]) -> str:
    """A line of fixed columns, since nobody knows yet how wide later ones are; a longer cell pushes its line out."""
    padded = (str(cell).ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))
    return "  ".join(padded).rstrip()


def row(letter: DeadLetter, now_unix_ms: int) -> str:
    """One letter on one line."""
    size = len(letter.value or b"")
    tried = "-" if letter.attempts is None else letter.attempts
    code = "unreadable" if letter.fault else letter.code
    cells = (letter.id or "-", letter.model or "-", code, age(letter.buried_unix_ms, now_unix_ms), tried, letter.place)
    return line((*cells, size)) + (f"  {letter.fault}" if letter.fault else "")


def facts(letter: DeadLetter) -> dict[str, object]:
    """One letter for programs, without its headers and value."""
    return {
        "place": str(letter.place),
        "id": letter.id or None,
        "model": letter.model or None,
        "code": letter.code or None,
        "reason": shown(letter.reason.encode()) or None,
        "lane": letter.lane,
        "attempts": letter.attempts,
        "buried_unix_ms": letter.buried_unix_ms,
        "first_seen_unix_ms": letter.first_seen_unix_ms,
        "topic": letter.topic or None,
        "partition": letter.partition,
        "offset": letter.offset,
        "bytes": len(letter.value or b""),
        "fault": letter.fault or None,
    }


def as_json(letter: DeadLetter) -> str:
    """The same on one line."""
    return msgspec.json.encode(facts(letter)).decode()


def details(letter: DeadLetter, now_unix_ms: int) -> Iterator[tuple[str, str]]:
    """All about one letter but its value: what, and how it is."""
    if letter.fault:
        yield "unreadable", f"no worker wrote this letter: {letter.fault}"
    first = "-" if letter.first_seen_unix_ms is None else moment(letter.first_seen_unix_ms, now_unix_ms)
    partition, offset = (("-" if number is None else number) for number in (letter.partition, letter.offset))
    yield from (
        ("id", letter.id or "-"),
        ("code", letter.code or "-"),
        ("reason", shown(letter.reason.encode())),
        ("model", letter.model or "-"),
        ("lane", letter.lane or "-"),
        ("attempts", "-" if letter.attempts is None else str(letter.attempts)),
        ("first seen", first),
        ("given up", moment(letter.buried_unix_ms, now_unix_ms)),
        ("place", str(letter.place)),
        ("came from", f"{letter.topic or '-'} partition {partition} offset {offset}"),
        ("key", "null" if letter.key is None else shown(letter.key)),
        ("value", "null" if letter.value is None else f"{len(letter.value)} bytes; --value FILE writes them"),
    )
    for name, text in shown_headers(letter):
        yield "header", f"{name}: {'null' if text is None else text}"


def shown_headers(letter: DeadLetter) -> list[tuple[str, str | None]]:
    """All headers in their order, each as `shown`."""
    return [(shown(name.encode()), None if value is None else shown(value)) for name, value in letter.headers]


def shown(value: bytes) -> str:
    """Bytes as text where they are that, else in hexadecimal; nothing that a terminal would obey, and not too much."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = f"0x{value[: SHOWN_CHARACTERS + 1].hex()}"
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: SHOWN_CHARACTERS + 1])
    return safe if len(safe) <= SHOWN_CHARACTERS else f"{safe[:SHOWN_CHARACTERS]}… ({len(value)} bytes)"


def now() -> int:
    """In Unix milliseconds."""
    return int(time.time() * 1000)


def age(then_unix_ms: int, now_unix_ms: int) -> str:
    """How long ago, in one number and a unit."""
    if then_unix_ms < 0:
        return "-"
    seconds = max(0, now_unix_ms - then_unix_ms) // 1000
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def moment(unix_ms: int, now_unix_ms: int) -> str:
    """A time in UTC, and how long ago it is."""
    try:
        written = datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"{unix_ms} ms: no time that there is"
    return f"{written} ({age(unix_ms, now_unix_ms)} ago)"


class Tally:
    """Counts names, however many there are, in bounded memory."""

    def __init__(self) -> None:
        self.total = 0
        self._counts: dict[str, int] = {}
        self._others = 0

    def add(self, name: str) -> None:
        self.total += 1
        if name in self._counts or len(self._counts) < MAX_NAMES:
            self._counts[name] = self._counts.get(name, 0) + 1
        else:
            self._others += 1

    def __str__(self) -> str:
        """The most frequent first: `5 unknown_model, 2 malformed`."""
        ranked = sorted(self._counts.items(), key=lambda pair: (-pair[1], pair[0]))
        named = [f"{count} {name}" for name, count in ranked[:SHOWN_NAMES]]
        rest = self._others + sum(count for _, count in ranked[SHOWN_NAMES:])
        return ", ".join([*named, *([f"{rest} others"] if rest else [])])


@contextmanager
def progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, else nothing; gives the step to be called for each letter that was read."""
    from tqdm import tqdm

    with tqdm(total=total, unit=" letters", leave=False, disable=not sys.stderr.isatty(), file=sys.stderr) as bar:

        def step() -> None:
            bar.update()

        yield step


@contextmanager
def beside_progress() -> Iterator[None]:
    """Where lines may be written without being mixed up with a bar."""
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stdout):
        yield
