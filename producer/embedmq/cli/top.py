"""What does `embedmq top` do?"""

from __future__ import annotations

import asyncio
import shutil
import sys
from typing import TYPE_CHECKING

import click

from embedmq.cli.connecting import setup_of
from embedmq.cli.exits import INTERRUPTED
from embedmq.cli.options import invocation_of
from embedmq.cli.output import json_line

if TYPE_CHECKING:
    from embedmq_schemas.connection import RedisConnection

    from embedmq.settings import Setup
    from embedmq.top.app import Top
    from embedmq.top.view import View

EXTRA = "top needs textual, which is not installed: pip install 'embedmq[top]', or pass --once"
PIPED_COLUMNS = 160
"""How wide the table is where no terminal says: enough that nothing is left out."""


@click.command()
@click.option(
    "--interval-s",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    help="How often the fleet is read, in seconds; workers say how they are every 5.",
)
@click.option("--once", is_flag=True, help="Print what there is, once, and end; with --json as one JSON value.")
@click.pass_context
def top(context: click.Context, interval_s: float, once: bool) -> None:
    r"""Watch the fleet: models, lanes, what waits, texts a second, batch fill, failures, workers; press ? for the keys.

    \b
    Example:
      embedmq top
      embedmq top --once --json | jq '.models[] | {model, lag}'
    """
    invocation = invocation_of(context)
    setup = setup_of(invocation)
    if setup.redis is None:
        raise click.UsageError("workers say how they are in Redis: pass --redis")
    if once:
        view = asyncio.run(_read(setup, setup.redis))
        if invocation.json:
            json_line(view)
        else:
            _print(view)
        return
    if invocation.json:
        raise click.UsageError("--json goes with --once: the live view is for people")
    try:
        from embedmq.top.app import Top
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"textual", "rich"}:
            raise
        raise click.UsageError(EXTRA) from None
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("the live view needs a terminal: pass --once")
    if asyncio.run(_watch(Top, setup, setup.redis, interval_s)) == INTERRUPTED:
        raise KeyboardInterrupt


def _print(view: View) -> None:
    from embedmq.top.lines import page

    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPED_COLUMNS
    for line in page(view, room):
        click.echo(line)


async def _read(setup: Setup, redis: RedisConnection) -> View:
    """Raises Unavailable."""
    from embedmq.top.live import live

    async with live(setup, redis, 0.0) as found:
        return await found.read()


async def _watch(top: type[Top], setup: Setup, redis: RedisConnection, interval_s: float) -> int:
    """Show it until somebody has seen enough; returns how it ended."""
    from embedmq.top.live import live

    async with live(setup, redis, interval_s) as found:
        app = top(found, interval_s)
        await app.run_async()
        return app.return_code or 0
