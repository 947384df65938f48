"""What does `embedmq job` do?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from embedmq.bulk.status import LIVE, WISHES, JobStatus, Wish, obeyed
from embedmq.cli.connecting import setup_of
from embedmq.cli.dead_rows import moment, now
from embedmq.cli.exits import FAILED
from embedmq.cli.job_rows import advice, clean, command, left, result
from embedmq.cli.jobs import complete_job, with_board
from embedmq.cli.options import invocation_of
from embedmq.cli.output import json_line
from embedmq.errors import StillPending

if TYPE_CHECKING:
    from embedmq.bulk.board import Board

LOOK_PERIOD_S: Final = 0.2


@click.command()
@click.argument("name", shell_complete=complete_job)
@click.argument("wish", metavar="[pause|resume|cancel]", required=False, type=click.Choice(WISHES))
@click.option("--follow", is_flag=True, help="Show its progress until it ends.")
@click.option(
    "--wait-s", type=click.FloatRange(min=0), default=30.0, show_default=True, help="For a pause, resume or cancel."
)
@click.pass_context
def job(context: click.Context, name: str, wish: Wish | None, follow: bool, wait_s: float) -> None:
    r"""Show a bulk job and what to do next, from anywhere; or let it pause, resume or cancel, and wait until it has.

    Exit code 1 for a job that is not known, that nobody runs, or that ended otherwise; 4 if it has not obeyed in time.

    \b
    Example:
      embedmq job docs
      embedmq job docs pause
      embedmq job docs resume --follow
    """
    invocation = invocation_of(context)

    async def work(board: Board) -> JobStatus:
        status = await _find(board, name)
        if wish is not None:
            status = await _demand(board, status, wish, wait_s)
        if follow:
            return await _follow(board, status, json=invocation.json)
        if invocation.json:
            json_line(status)
        elif wish is not None:
            click.echo(f"{status.state}: {result(status)}: {advice(status)}")
        else:
            for what, how in _details(status):
                click.echo(f"{what:8}  {how}")
        return status

    status = with_board(setup_of(invocation), work)
    if follow and (status.state != "done" or status.rows_failed):
        context.exit(FAILED)


async def _find(board: Board, name: str) -> JobStatus:
    """Raises ClickException, which names the jobs that there are."""
    if (status := await board.get(name)) is not None:
        return status
    names = ", ".join(clean(known.name) for known in await board.all())
    raise click.ClickException(f"job {clean(name)} is not known; " + (f"these are: {names}" if names else "none is"))


async def _demand(board: Board, status: JobStatus, wish: Wish, wait_s: float) -> JobStatus:
    """Ask, and wait until the job is so. Raises ClickException when it cannot come to that, StillPending."""
    name = status.name
    if obeyed(wish, status.state) and await board.wish(name) in (None, wish):
        return status
    if status.state not in LIVE:
        raise click.ClickException(_nobody(status, wish))
    await board.ask(name, wish)
    until = time.monotonic() + wait_s
    while not obeyed(wish, (status := await _find(board, name)).state):
        if status.state not in LIVE:
            await board.clear_wish(name, wish)
            raise click.ClickException(_nobody(status, wish))
        if time.monotonic() >= until:
            raise StillPending(
                f"job {clean(name)} is {status.state}, and was asked to {wish}: it will as soon as it can; "
                f"look again, or wait longer (--wait-s)"
            )
        await asyncio.sleep(LOOK_PERIOD_S)
    return status


def _nobody(status: JobStatus, wish: Wish) -> str:
    """Why a job that has ended cannot obey, and what to do."""
    name = clean(status.name)
    if status.state == "done":
        return f"job {name} is done: there is nothing to {wish}"
    if wish == "resume":
        return (
            f"job {name} is {status.state}, and nobody runs it: this goes on, with its other options: {command(status)}"
        )
    return f"job {name} is {status.state}, and nobody runs it: there is nothing to {wish}"


async def _follow(board: Board, status: JobStatus, *, json: bool) -> JobStatus:
    """Show how it goes until it ends."""
    from embedmq.cli.bars import show

    with show(json=json) as progress:
        progress.update(status)
        while status.state in LIVE:
            await asyncio.sleep(LOOK_PERIOD_S)
            status = await _find(board, status.name)
            progress.update(status)
    return status


def _details(status: JobStatus) -> Iterator[tuple[str, str]]:
    """What, and how it is."""
    now_unix_ms = now()
    yield "name", clean(status.name)
    yield "state", f"{status.state}: {clean(status.message)}" if status.message else status.state
    yield "model", clean(status.model)
    yield "source", clean(status.source)
    yield "sink", clean(status.sink)
    yield "rows", result(status)
    yield "left", left(status) or "-"
    yield "tokens", f"{status.tokens:,}"
    yield "process", f"{status.pid} on {clean(status.host)}"
    yield "started", moment(int(status.started_unix_s * 1000), now_unix_ms)
    yield "updated", moment(int(status.updated_unix_s * 1000), now_unix_ms)
    yield "next", advice(status)
