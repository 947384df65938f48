"""What does `embedmq jobs` do, and how do commands reach what is known of jobs?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from embedmq.cli.connecting import setup_of
from embedmq.cli.job_rows import HEAD, row
from embedmq.cli.options import invocation_of
from embedmq.cli.output import json_line, table
from embedmq.errors import EmbedMQError

if TYPE_CHECKING:
    from embedmq.bulk.board import Board
    from embedmq.settings import Setup

COMPLETION_TIMEOUT_S = 1.0

_T = TypeVar("_T")


@click.command()
@click.pass_context
def jobs(context: click.Context) -> None:
    r"""List bulk jobs wherever they run, and those that ended within the last 7 days: the newest first.

    \b
    Example:
      embedmq jobs
      embedmq jobs --json | jq 'select(.state == "interrupted") | .name'
    """
    invocation = invocation_of(context)

    async def work(board: Board) -> None:
        found = await board.all()
        if invocation.json:
            for status in found:
                json_line(status)
        elif found:
            table(HEAD, map(row, found))
        else:
            click.echo("no jobs: embedmq reindex begins one")

    with_board(setup_of(invocation), work)


def with_board(setup: Setup, work: Callable[[Board], Awaitable[_T]]) -> _T:
    """Do something with the board of jobs: Redis is enough, Kafka may be away. Raises Unavailable."""
    if setup.redis is None:
        raise click.UsageError("jobs are known in Redis: pass --redis")
    redis = setup.redis

    async def run() -> _T:
        from embedmq_schemas.names import Names

        from embedmq.bulk.board import Board
        from embedmq.store import Store

        store = Store(redis, setup.connect_timeout_s)
        try:
            await store.start()
            return await work(Board(store, Names(setup.prefix)))
        finally:
            await store.stop()

    return asyncio.run(run())


def complete_job(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """The names of jobs for a shell's completion; none where Redis does not answer soon, since somebody types."""

    async def names(board: Board) -> list[str]:
        return [status.name for status in await board.all() if status.name.startswith(begun)]

    try:
        setup = msgspec.structs.replace(setup_of(invocation_of(context)), connect_timeout_s=COMPLETION_TIMEOUT_S)
        return with_board(setup, names)
    except (EmbedMQError, click.ClickException):
        return []
