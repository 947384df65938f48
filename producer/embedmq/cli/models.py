"""What does `embedmq models` do?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from embedmq.cli.connecting import with_client
from embedmq.cli.options import invocation_of
from embedmq.cli.output import json_line, table

if TYPE_CHECKING:
    from embedmq.client import Client
    from embedmq.fleet import ServedModel


@click.command()
@click.pass_context
def models(context: click.Context) -> None:
    r"""List what the fleet serves, and the state of each model on each worker.

    \b
    Example:
      embedmq models
    """
    invocation = invocation_of(context)

    async def work(client: Client) -> None:
        found = await client.models()
        if invocation.json:
            for model in found:
                json_line({**_facts(model), "workers": model.workers})
        elif found:
            table(("MODEL", "TOPIC", "OUTPUTS", "DIMENSIONS", "TOKENS", "REVISION", "WORKERS"), map(_row, found))
        else:
            click.echo("no models: no worker has announced any within the last minutes")

    with_client(invocation, work)


def _facts(model: ServedModel) -> dict[str, object]:
    entry = model.entry
    return {
        "model": model.name,
        "shared": entry.shared,
        "outputs": entry.outputs,
        "scores": entry.scores,
        "dimensions": entry.dimensions,
        "max_tokens": entry.max_tokens,
        "revision": entry.revision,
    }


def _row(model: ServedModel) -> list[object]:
    entry = model.entry
    states = [status.state + (" (pinned)" if status.pinned else "") for status in model.workers.values()]
    outputs = [*entry.outputs, *(["scores"] if entry.scores else [])]
    shown = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))) or "none"
    topic = "shared" if entry.shared else "own"
    return [model.name, topic, ",".join(outputs), entry.dimensions, entry.max_tokens, entry.revision[:12], shown]
