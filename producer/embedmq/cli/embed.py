"""What does `embedmq embed` do?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import click
from embedmq_schemas.requests import Lane

from embedmq.cli.asking import Asked, asking_options, lane_option, options_of
from embedmq.cli.connecting import with_client
from embedmq.cli.exits import FAILED
from embedmq.cli.options import invocation_of
from embedmq.cli.texts import chunks
from embedmq.cli.vectors import write_embedding, write_failure
from embedmq.errors import RequestFailed

if TYPE_CHECKING:
    from embedmq.client import Client
    from embedmq.embeddings import Embeddings

TEXTS_PER_REQUEST = 64
REQUESTS_AHEAD = 8
"""Requests whose answers have not been written yet."""

_Asked = tuple[int, "asyncio.Task[Embeddings]"]


@click.command()
@click.argument("model")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@asking_options
@lane_option("interactive")
@click.option("--timeout-s", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True)
@click.pass_context
def embed(
    context: click.Context, model: str, texts: Sequence[str], lane: Lane, timeout_s: float, **asked: Unpack[Asked]
) -> None:
    r"""Embed TEXTs, or each line of standard input, in order.

    \b
    Example:
      embedmq embed minilm 'a cat' 'a dog'
      embedmq embed minilm --json < texts.txt > vectors.jsonl
    """
    invocation = invocation_of(context)
    failed = 0

    async def ask(client: Client, waiting: asyncio.Queue[_Asked | None]) -> None:
        index = 0
        async for chunk in chunks(texts):
            for start in range(0, len(chunk), TEXTS_PER_REQUEST):
                part = chunk[start : start + TEXTS_PER_REQUEST]
                call = client.embed(model, part, lane=lane, timeout_s=timeout_s, on_error="return", **options_of(asked))
                await waiting.put((len(part), asyncio.create_task(call)))
                index += len(part)
        await waiting.put(None)

    async def write(waiting: asyncio.Queue[_Asked | None]) -> None:
        nonlocal failed
        index = 0
        while (next_ := await waiting.get()) is not None:
            count, task = next_
            try:
                embeddings = await task
            except RequestFailed as error:
                for i in range(index, index + count):
                    write_failure(i, error.code, str(error), json=invocation.json)
                failed += count
            else:
                for i, item in enumerate(embeddings, index):
                    failed += not write_embedding(i, item, json=invocation.json)
            index += count

    async def work(client: Client) -> None:
        waiting: asyncio.Queue[_Asked | None] = asyncio.Queue(REQUESTS_AHEAD)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(ask(client, waiting))
                group.create_task(write(waiting))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    with_client(invocation, work)
    if failed:
        context.exit(FAILED)
