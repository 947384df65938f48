"""What do `embedmq models load`, `unload`, `pin`, `unpin` and `reset` do?"""

from __future__ import annotations

import asyncio
import getpass
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec
from embedmq_schemas.names import Names
from embedmq_schemas.requests import LANES

from embedmq.cli.connecting import setup_of
from embedmq.cli.exits import FAILED
from embedmq.cli.options import invocation_of
from embedmq.cli.output import json_line, table

if TYPE_CHECKING:
    from embedmq.control import Followed
    from embedmq.settings import Setup

Command = TypeVar("Command", bound=Callable[..., object])
WAIT_S = 60.0


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What an order says, as `embedmq.control.give_order` takes it."""

    served: bool | None = None
    pinned: bool | None = None
    entry: str | None = None
    reset: bool = False


def _for_one(command: Command) -> Command:
    """Every order is for one MODEL, and is waited for."""
    wait = click.option(
        "--wait-s",
        type=click.FloatRange(min=0),
        default=WAIT_S,
        show_default=True,
        help="How long to wait for all workers to have followed.",
    )
    return click.argument("model")(wait(command))


@click.command()
@_for_one
@click.option("--from", "entry", metavar="ENTRY", help="Answer by the checkpoint of this entry of the workers' files.")
@click.pass_context
def load(context: click.Context, model: str, wait_s: float, entry: str | None) -> None:
    r"""Serve MODEL: read its topics, and load it when it is asked for. With --from, another checkpoint answers.

    \b
    Example:
      embedmq models load minilm
      embedmq models load minilm --from minilm-v2
    """
    _order(context, model, wait_s, Wish(served=True, entry=entry))


@click.command()
@_for_one
@click.pass_context
def unload(context: click.Context, model: str, wait_s: float) -> None:
    r"""Serve MODEL no more: what was read is answered, what comes later waits in Kafka, its memory is given back.

    \b
    Example:
      embedmq models unload minilm
    """
    _order(context, model, wait_s, Wish(served=False, pinned=False))


@click.command()
@_for_one
@click.pass_context
def pin(context: click.Context, model: str, wait_s: float) -> None:
    r"""Load MODEL at once, and never evict it.

    \b
    Example:
      embedmq models pin minilm
    """
    _order(context, model, wait_s, Wish(pinned=True))


@click.command()
@_for_one
@click.pass_context
def unpin(context: click.Context, model: str, wait_s: float) -> None:
    r"""Let MODEL make room for others when nobody asks for it.

    \b
    Example:
      embedmq models unpin minilm
    """
    _order(context, model, wait_s, Wish(pinned=False))


@click.command()
@_for_one
@click.pass_context
def reset(context: click.Context, model: str, wait_s: float) -> None:
    r"""Take all orders for MODEL back: it is served as each worker's file says.

    \b
    Example:
      embedmq models reset minilm
    """
    _order(context, model, wait_s, Wish(reset=True))


def _order(context: click.Context, model: str, wait_s: float, wish: Wish) -> None:
    invocation = invocation_of(context)
    offset, found = asyncio.run(_give(context, model, wait_s, wish))
    waiting = asyncio.run(_waiting(setup_of(invocation), model)) if wish.served is False else 0
    if waiting:
        click.echo(
            f"embedmq: {waiting} requests for {model} wait, as do all that producers still send, until it is served "
            "again or retention removes them",
            err=True,
        )
    if invocation.json:
        json_line({"model": model, "order": offset, "workers": found})
    elif found:
        table(("WORKER", "SERVED", "PINNED", "STATE", "REFUSED"), map(_row, found))
    else:
        click.echo(f"no worker runs: order {offset} holds for those that start")
    listed = [one for one in found if one.state]
    if any(one.refused for one in listed) or not listed or (wish.served and not any(one.served for one in listed)):
        context.exit(FAILED)


async def _give(context: click.Context, model: str, wait_s: float, wish: Wish) -> tuple[int, Sequence[Followed]]:
    """The order's offset, and what each worker made of it; nothing is ordered that no worker lists."""
    from embedmq.control import followed, give_order
    from embedmq.errors import InvalidRequest
    from embedmq.fleet import Fleet
    from embedmq.store import Store

    setup = setup_of(invocation_of(context))
    if setup.redis is None:
        raise click.UsageError("--redis is needed: workers say there what they serve")
    store = Store(setup.redis, setup.connect_timeout_s)
    try:
        fleet = Fleet(store, Names(setup.prefix))
        known = {name for worker in await fleet.workers() for name in worker.models}
        for name in (model, wish.entry):
            if known and name is not None and name not in known and not wish.reset:
                raise InvalidRequest(f"no worker has {name!r} in its file; there are: {', '.join(sorted(known))}")
        by = f"{getpass.getuser()}@{socket.gethostname()}"
        offset = await give_order(
            setup, model, served=wish.served, pinned=wish.pinned, entry=wish.entry, reset=wish.reset, by=by
        )
        return offset, await followed(fleet, model, offset, wait_s)
    finally:
        await store.stop()


async def _waiting(setup: Setup, model: str) -> int:
    """How many requests are on the model's own topics that no worker has finished."""
    from embedmq.cli.cluster import connect

    names = Names(setup.prefix)
    groups = {names.requests(model, lane): names.group(lane) for lane in LANES}
    async with connect(setup) as cluster:
        there = groups.keys() & set(await cluster.topics())
        lags = await cluster.lags({topic: groups[topic] for topic in there})
    return sum(lag.lag for lag in lags.values())


def _row(one: Followed) -> list[object]:
    yes = ("no", "yes")
    why = one.refused or one.error
    return [one.worker, yes[one.served], yes[one.pinned], one.state or "-", why]


ORDERS: Sequence[click.Command] = (load, unload, pin, unpin, reset)
