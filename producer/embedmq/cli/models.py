"""What does `embedmq models` do, with nothing after it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from embedmq.cli.connecting import with_client
from embedmq.cli.models_orders import ORDERS
from embedmq.cli.options import invocation_of
from embedmq.cli.output import json_line, table

if TYPE_CHECKING:
    from embedmq_schemas.catalogue import ModelStatus

    from embedmq.client import Client
    from embedmq.fleet import ServedModel


@click.group(invoke_without_command=True, commands=ORDERS)
@click.pass_context
def models(context: click.Context) -> None:
    r"""List what the fleet serves, and each model's state on each worker: size, path, last use, loads, evictions.

    With a command, change it: workers follow within a moment, and none is restarted.

    \b
    Example:
      embedmq models
      embedmq models --json | jq .workers
      embedmq models load minilm
    """
    if context.invoked_subcommand is None:
        _list(context)


def _list(context: click.Context) -> None:
    invocation = invocation_of(context)

    async def work(client: Client) -> None:
        found = await client.models()
        if invocation.json:
            for model in found:
                json_line({**_facts(model), "workers": model.workers})
        elif found:
            table(("MODEL", "TOPIC", "OUTPUTS", "DIMENSIONS", "TOKENS", "REVISION", "WORKERS"), map(_row, found))
            _write_workers(found)
        else:
            click.echo("no models: no worker has announced any within the last minutes")

    with_client(invocation, work)


def _write_workers(found: Sequence[ServedModel]) -> None:
    """One line for each model on each worker, then what wants a sentence."""
    places = [(model.name, worker, status) for model in found for worker, status in sorted(model.workers.items())]
    if not places:
        return
    click.echo()
    heads = ("MODEL", "WORKER", "STATE", "MB", "PATH", "DTYPE", "IDLE", "LOADS", "EVICTED", "FAILED")
    table(heads, (_place(*place) for place in places))
    for name, _, status in places:
        if status.error:
            click.echo(f"{name}: {status.error}")
        if status.thrashing:
            click.echo(f"{name}: loaded and evicted again and again: raise worker.memory_budget_bytes, or pin it")
    for name, why in dict.fromkeys((name, status.reason) for name, _, status in places if status.reason):
        click.echo(f"{name}: {why}")


def _place(name: str, worker: str, status: ModelStatus) -> list[object]:
    idle = "-" if status.idle_s is None else f"{status.idle_s:.0f} s"
    state = _state(status)
    counts = [status.loads, status.evictions, status.failures]
    return [name, worker, state, f"{status.bytes / 1e6:.0f}", status.path, status.computed_in, idle, *counts]


def _state(status: ModelStatus) -> str:
    """With whatever is not as usual."""
    notes = [
        "pinned" if status.pinned else "",
        "" if status.served else "not served",
        f"from {status.entry}" if status.entry else "",
    ]
    said = ", ".join(note for note in notes if note)
    return f"{status.state} ({said})" if said else status.state


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
    states = [_state(status) for status in model.workers.values()]
    outputs = [*entry.outputs, *(["scores"] if entry.scores else [])]
    shown = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))) or "none"
    topic = "shared" if entry.shared else "own"
    if not outputs:  # no worker has loaded it yet, so nobody knows
        return [model.name, topic, "-", "-", "-", "-", shown]
    return [model.name, topic, ",".join(outputs), entry.dimensions, entry.max_tokens, entry.revision[:12], shown]
