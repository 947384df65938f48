"""What does `embedmq doctor` do?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from importlib.metadata import entry_points

import click
from embedmq_schemas.check import Check
from embedmq_schemas.invocation import Invocation

from embedmq.cli.commands import install_hint
from embedmq.cli.connecting import setup_of
from embedmq.cli.exits import UNREACHABLE, USAGE
from embedmq.cli.options import invocation_of
from embedmq.cli.output import json_line

GROUP = "embedmq.checks"
"""Entry points by which other packages add checks: functions `(Invocation) -> Iterable[Check]`."""


@click.command()
@click.pass_context
def doctor(context: click.Context) -> None:
    r"""Look at Kafka, Redis, topics, clocks and what else is installed, and say what to do.

    \b
    Example:
      embedmq doctor --config worker.toml
    """
    invocation = invocation_of(context)
    checks = [*_own(invocation), *_others(invocation)]
    for check in checks:
        if invocation.json:
            json_line(check)
        else:
            click.echo(
                f"{click.style('ok', fg='green') if check.ok else click.style('bad', fg='red'):3} {_text(check)}"
            )
    codes = {check.exit_code for check in checks if not check.ok}
    if codes:
        context.exit(UNREACHABLE if UNREACHABLE in codes else max(codes))


def _text(check: Check) -> str:
    return f"{check.name}: {check.found}" + (f": {check.remedy}" if check.remedy else "")


def _own(invocation: Invocation) -> list[Check]:
    from embedmq.cli.diagnosis import kafka_checks, redis_checks

    setup = setup_of(invocation)

    async def run() -> list[Check]:
        return [*await kafka_checks(setup), *await redis_checks(setup)]

    return asyncio.run(run())


def _others(invocation: Invocation) -> Iterable[Check]:
    for entry in entry_points(group=GROUP):
        try:
            yield from entry.load()(invocation)
        except ImportError as error:
            yield Check(name=entry.name, ok=True, found=f"not installed ({error.name}): {install_hint(entry.module)}")
        except Exception as error:  # one broken check does not hide the others
            found = f"could not be looked at: {type(error).__name__}: {error}"
            yield Check(name=entry.name, ok=False, found=found, remedy="run it again with --debug", exit_code=USAGE)
