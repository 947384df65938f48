"""What does `embedmq dead` do, and what do `list` and `show` print?"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import IO, TYPE_CHECKING, Unpack

import click

from embedmq.cli.connecting import setup_of
from embedmq.cli.dead_options import Filters, filter_options, selection_of
from embedmq.cli.dead_purge import purge
from embedmq.cli.dead_replay import replay
from embedmq.cli.dead_rows import (
    HEAD,
    Tally,
    as_json,
    beside_progress,
    details,
    facts,
    line,
    now,
    progress,
    row,
    shown_headers,
)
from embedmq.cli.options import invocation_of
from embedmq.cli.output import json_line

if TYPE_CHECKING:
    from embedmq.dead import DeadLetter
    from embedmq.dead_selection import Selection
    from embedmq.settings import Setup

_PLACE = re.compile(r"(\d{1,9})/(\d{1,18})")


@click.group()
def dead() -> None:
    r"""List, show, replay or purge dead letters: requests that failed and were given up, kept as they came.

    \b
    Example:
      embedmq dead list --since 2h
      embedmq dead show 3f0b5c1e-58a9-4d0f-9f5b-0c6a3f1f7d7e
      embedmq dead replay --code model_unavailable --dry-run
      embedmq dead purge --before 7d
    """


dead.add_command(replay)
dead.add_command(purge)


@dead.command("list")
@filter_options
@click.pass_context
def list_letters(context: click.Context, limit: int | None, **filters: Unpack[Filters]) -> None:
    r"""List dead letters, the newest last, and how many there are by code and model.

    A letter that no worker wrote is listed as unreadable, with the headers that it lacks.

    \b
    Example:
      embedmq dead list --model minilm --since 2h --limit 20
      embedmq dead list --json | jq -r .code | sort | uniq -c
    """
    invocation, selection = invocation_of(context), selection_of(filters)
    asyncio.run(_list(setup_of(invocation), selection, limit, json=invocation.json))


@dead.command()
@click.argument("which", metavar="ID|PARTITION/OFFSET")
@click.option("--value", type=click.File("wb", lazy=True), help="Write the request's bytes there; - is stdout.")
@click.pass_context
def show(context: click.Context, which: str, value: IO[bytes] | None) -> None:
    r"""Show one dead letter: the reason, where it came from and all its headers; of several of one id the last.

    The request itself, which holds the texts, is only written where --value says.

    \b
    Example:
      embedmq dead show 0/17
      embedmq dead show 0/17 --value - | jq .items
    """
    invocation = invocation_of(context)
    letter = asyncio.run(_find(setup_of(invocation), which))
    if letter is None:
        raise click.ClickException(f"{which}: no such dead letter: embedmq dead list names those that are there")
    if value is not None:
        value.write(letter.value or b"")
        if value.name == "-":
            return
    if invocation.json:
        json_line({**facts(letter), "headers": shown_headers(letter)})
    else:
        for what, how in details(letter, now()):
            click.echo(f"{what:10}  {how}")


async def _list(setup: Setup, selection: Selection, limit: int | None, *, json: bool) -> None:
    from embedmq.dead_topic import DeadTopic

    now_unix_ms, codes, models = now(), Tally(), Tally()
    waiting: deque[str] = deque()  # as text, since whole letters could be large
    async with DeadTopic.open(setup) as topic:
        spans = await topic.spans(selection.since_unix_ms)
        if not json:
            click.echo(line(HEAD))
        with progress(sum(span.length for span in spans.values())) as step:
            async for letter in topic.letters(spans, step):
                if not selection.has(letter):
                    continue
                codes.add("unreadable" if letter.fault else letter.code)
                models.add(letter.model or "-")
                waiting.append(as_json(letter) if json else row(letter, now_unix_ms))
                if limit is None:
                    with beside_progress():
                        click.echo(waiting.popleft())
                elif len(waiting) > limit:
                    waiting.popleft()
    for text in waiting:
        click.echo(text)
    if not json:
        click.echo(f"{codes.total} letters" + (f": {codes}; by model: {models}" if codes.total else ""))


async def _find(setup: Setup, which: str) -> DeadLetter | None:
    """A letter by its place, else the last one of its id."""
    from embedmq.dead import Place
    from embedmq.dead_topic import DeadTopic

    place = _PLACE.fullmatch(which)
    async with DeadTopic.open(setup) as topic:
        if place is not None:
            return await topic.letter(Place(int(place[1]), int(place[2])))
        found: DeadLetter | None = None
        spans = await topic.spans(None)
        with progress(sum(span.length for span in spans.values())) as step:
            async for letter in topic.letters(spans, step):
                if letter.id == which:
                    found = letter
        return found
