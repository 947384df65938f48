"""What does `embedmq topics` do?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from embedmq_schemas.names import Names, is_model_name

from embedmq.cli.connecting import setup_of
from embedmq.cli.layout import PARTITIONS, RETENTION_DAYS, request_topics, wanted
from embedmq.cli.options import invocation_of
from embedmq.cli.output import json_line, table

if TYPE_CHECKING:
    from embedmq.settings import Setup


@click.group()
def topics() -> None:
    r"""Create Kafka topics, or show what waits in them.

    \b
    Example:
      embedmq topics show
    """


@topics.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--shared", is_flag=True, help="Also the topics that models without their own share.")
@click.option("--partitions", type=click.IntRange(min=1), default=PARTITIONS, show_default=True)
@click.option("--retention-days", type=click.FloatRange(min=0.01), default=RETENTION_DAYS, show_default=True)
@click.pass_context
def create(context: click.Context, models: Sequence[str], shared: bool, partitions: int, retention_days: float) -> None:
    r"""Create the missing topics of MODELs, those of retries and of dead letters; what is there is left as it is.

    \b
    Example:
      embedmq topics create minilm --partitions 16
    """
    invocation = invocation_of(context)
    if not models and not shared:
        raise click.UsageError("name a MODEL, or --shared")
    for model in models:
        if not is_model_name(model):
            raise click.UsageError(f"{model!r} is no model's name: lower-case letters, digits and dashes")
    setup = setup_of(invocation)
    names = Names(setup.prefix)
    requests = request_topics(names, models, shared=shared)

    async def run() -> dict[str, str]:
        from embedmq.cli.cluster import connect

        async with connect(setup) as cluster:
            return await cluster.create(wanted(names, requests, partitions, retention_days))

    for name, outcome in sorted(asyncio.run(run()).items()):
        if invocation.json:
            json_line({"topic": name, "outcome": outcome})
        else:
            click.echo(f"{outcome:8} {name}")


@topics.command()
@click.pass_context
def show(context: click.Context) -> None:
    r"""Show what waits per model and lane: records not yet done, and the wait that workers estimate.

    \b
    Example:
      embedmq topics show --json
    """
    invocation = invocation_of(context)
    setup = setup_of(invocation)
    rows = asyncio.run(_rows(setup))
    if invocation.json:
        for row in rows:
            json_line(row)
    elif rows:
        head = ("topic", "model", "lane", "partitions", "replication", "end", "committed", "lag", "wait_s")
        table([name.upper() for name in head], ([_cell(row[name]) for name in head] for row in rows))
    else:
        click.echo(f"no request topics begin with {setup.prefix}.: embedmq topics create MODEL, or set --prefix")


async def _rows(setup: Setup) -> list[dict[str, object]]:
    from embedmq.cli.cluster import connect

    names = Names(setup.prefix)
    waits = await _waits(setup)
    rows: list[dict[str, object]] = []
    async with connect(setup) as cluster:
        places = {topic: place for topic in await cluster.topics() if (place := names.parse(topic)) is not None}
        lags = await cluster.lags({topic: names.group(lane) for topic, (_, lane) in places.items()})
        for fact in await cluster.facts(list(places)):
            model, lane = places[fact.name]
            lag = lags[fact.name]
            rows.append(
                {
                    "topic": fact.name,
                    "model": model,
                    "lane": lane,
                    "partitions": fact.partitions,
                    "replication": fact.replication,
                    "end": lag.end,
                    "committed": lag.committed,
                    "lag": lag.lag,
                    "wait_s": None if model is None else waits.get((model, lane)),
                }
            )
    return rows


async def _waits(setup: Setup) -> dict[tuple[str, str], float]:
    """What workers estimate, where Redis tells; without it the topics are shown all the same."""
    from embedmq.errors import Unavailable
    from embedmq.fleet import Fleet
    from embedmq.store import Store

    if setup.redis is None:
        return {}
    store = Store(setup.redis, setup.connect_timeout_s)
    try:
        return await Fleet(store, Names(setup.prefix)).waits()
    except Unavailable as error:
        click.echo(f"embedmq: waits are not known: {error}", err=True)
        return {}
    finally:
        await store.stop()


def _cell(value: object) -> object:
    return "-" if value is None else f"{value:.1f}" if isinstance(value, float) else value
