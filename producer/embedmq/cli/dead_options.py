"""Which options say what dead letters are meant?"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypedDict, TypeVar

import click
from embedmq_schemas.codes import CODES

if TYPE_CHECKING:
    from embedmq.dead_selection import Selection

_F = TypeVar("_F", bound=Callable[..., object])

UNIT_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_AGE: Final = re.compile(r"(\d{1,9})([smhd])")


def when(text: str) -> int:
    """A time as Unix milliseconds: an age such as `2h`, or ISO 8601, in UTC unless it names a zone."""
    now_unix_ms = int(time.time() * 1000)
    if (age := _AGE.fullmatch(text)) is not None:
        return max(0, now_unix_ms - int(age[1]) * UNIT_MS[age[2]])
    try:
        moment = datetime.fromisoformat(text)
        return max(0, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000))
    except (ValueError, OverflowError):
        message = f"{text!r} is no time: write an age such as 30s, 15m, 2h or 7d, or one like 2026-01-31T12:00"
        raise click.BadParameter(message) from None


class Filters(TypedDict):
    """The values of `filter_options`."""

    model: Sequence[str]
    code: Sequence[str]
    since: int | None
    until: int | None


_OPTIONS = [
    click.option("--model", multiple=True, metavar="NAME", help="Only of this model; may be repeated."),
    click.option(
        "--code",
        multiple=True,
        type=click.Choice([code for code, facts in CODES.items() if facts.dead_letter]),
        help="Only for this reason; may be repeated.",
    ),
    click.option("--since", type=when, metavar="T", help="Only those given up from then on: an age (2h) or ISO time."),
    click.option("--until", type=when, metavar="T", help="Only those given up before: an age (15m) or ISO time."),
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N of them."),
]


def filter_options(command: _F) -> _F:
    """Add the options, and `limit`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def selection_of(filters: Filters) -> Selection:
    """The values as one filter; raises UsageError where no letter could pass."""
    from embedmq.dead_selection import Selection

    since, until = filters["since"], filters["until"]
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until: no letter can be both")
    return Selection(
        models=frozenset(filters["model"]),
        codes=frozenset(filters["code"]),
        since_unix_ms=since,
        until_unix_ms=until,
    )
