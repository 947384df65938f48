"""What does `embedmq doctor` do?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points

import click
from embedmq_schemas.check import WRONG, Check, Visit
from embedmq_schemas.invocation import Invocation

from embedmq.cli.commands import install_hint
from embedmq.cli.options import invocation_of
from embedmq.cli.output import json_line

GROUP = "embedmq.checks"
"""Entry points by which other packages add checks: functions `(Visit) -> Iterable[Check]`."""
MARKS = {True: ("ok", "green"), False: ("bad", "red"), None: ("-", "yellow")}


@click.command()
@click.option("--load", is_flag=True, help="Load each configured model on its device, and say how long it took.")
@click.pass_context
def doctor(context: click.Context, load: bool) -> None:
    r"""Look at Kafka, Redis, topics, clocks and what else is installed, and say what to do.

    \b
    Example:
      embedmq doctor --config worker.toml
    """
    invocation = invocation_of(context)
    code = 0
    for check in _checks(invocation, load=load):
        if invocation.json:
            json_line(check)
        else:
            word, color = MARKS[check.ok]
            click.echo(f"{click.style(f'{word:3}', fg=color)} {_text(check)}")
        code = max(code, check.exit_code)
    context.exit(code)


def _text(check: Check) -> str:
    text = f"{check.name}: {check.found}" + (f": {check.remedy}" if check.remedy else "")
    return " ".join(text.split())


def _checks(invocation: Invocation, *, load: bool) -> Iterator[Check]:
    """Those of this package, then those of others, which are told what failed."""
    from embedmq.cli.diagnosis import checks  # aiokafka takes a while to import: not for a list of commands

    failed: set[str] = set()
    for check in checks(invocation):
        failed |= set() if check.ok else {check.name}
        yield check
    yield from _others(Visit(invocation=invocation, load=load, failed=frozenset(failed)))


def _others(visit: Visit) -> Iterable[Check]:
    for entry in entry_points(group=GROUP):
        try:
            yield from entry.load()(visit)
        except ImportError as error:
            yield Check(name=entry.name, ok=None, found=f"not installed ({error.name}): {install_hint(entry.module)}")
        except Exception as error:  # one broken check does not hide the others
            found = f"could not be looked at: {type(error).__name__}"  # what it says may quote a secret
            remedy = "this is a fault of ours: tell us, with what you asked"
            yield Check(name=entry.name, ok=False, found=found, remedy=remedy, exit_code=WRONG)
