"""What does `embedmq dead replay` do?"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Literal, Unpack

import click

from embedmq.cli.connecting import setup_of
from embedmq.cli.dead_options import Filters, filter_options, selection_of
from embedmq.cli.dead_rows import Tally, beside_progress, now, progress
from embedmq.cli.exits import FAILED
from embedmq.cli.options import invocation_of
from embedmq.cli.output import json_line

if TYPE_CHECKING:
    from embedmq.dead import DeadLetter
    from embedmq.dead_replay import Replay
    from embedmq.dead_selection import Selection
    from embedmq.dead_sender import DeadSender
    from embedmq.settings import Setup

Outcome = Literal["replayed", "would replay", "superseded", "refused", "failed"]


@click.command()
@filter_options
@click.option("--dry-run", is_flag=True, help="Say what would be done, and send nothing.")
@click.pass_context
def replay(context: click.Context, limit: int | None, dry_run: bool, **filters: Unpack[Filters]) -> None:
    r"""Send dead letters to their first topics once more, once the cause is gone.

    Each keeps its id and its bytes, has all attempts again and no deadline any more; a success takes the place of the
    failure that is kept. Of several letters of one id the last is sent. The letters stay where they are: sending them
    twice does no harm, and `embedmq dead purge` removes them. Exit code 1 if some could not be sent.

    \b
    Example:
      embedmq dead replay --model minilm --code model_unavailable --since 2h --dry-run
      embedmq dead replay --limit 1
    """
    invocation, selection = invocation_of(context), selection_of(filters)
    report = Report(json=invocation.json)
    try:
        asyncio.run(_replay(setup_of(invocation), selection, limit, report, dry_run=dry_run))
    finally:
        report.end(dry_run=dry_run)
    if report.short:
        context.exit(FAILED)


class Report:
    """Tells what became of each letter: for programs all of them, for people those that were not sent, and how many."""

    def __init__(self, *, json: bool) -> None:
        self.short = False
        """Whether a letter could not be sent."""
        self.dead = ""
        """Where the letters are, once that is known."""
        self.chosen = False
        """Whether it is known which letters are to be sent."""
        self._json = json
        self._outcomes = Tally()

    def note(self, letter: DeadLetter, outcome: Outcome, reason: str = "") -> None:
        self._outcomes.add(outcome)
        self.short |= outcome in ("refused", "failed")
        with beside_progress():
            if self._json:
                known = {"place": str(letter.place), "id": letter.id or None, "topic": letter.topic or None}
                json_line({**known, "outcome": outcome, "reason": reason or None})
            elif reason:
                click.echo(f"{letter.place}  {letter.id or '-'}  {outcome}: {reason}")

    def gone(self, count: int) -> None:
        """Letters that were chosen, and removed before they could be sent."""
        if count:
            self.short = True
            click.echo(f"embedmq: {count} letters were removed meanwhile and are not sent", err=True)

    def end(self, *, dry_run: bool) -> None:
        """The sum of it, also of what an interruption left."""
        if self._json or not self.chosen:
            return
        click.echo(str(self._outcomes) or "no dead letter to replay")
        if self._outcomes.total and not dry_run:
            click.echo(f"the letters are in {self.dead} still: embedmq dead purge --before TIME removes older ones")


async def _replay(setup: Setup, selection: Selection, limit: int | None, report: Report, *, dry_run: bool) -> None:
    """Read twice: which letter is the last of its id is known at the end only, and all of them would be too many."""
    from embedmq_schemas.names import Names

    from embedmq.dead_replay import Refusal, Superseded, decide
    from embedmq.dead_selection import choose
    from embedmq.dead_sender import DeadSender
    from embedmq.dead_topic import DeadTopic

    names, now_unix_ms = Names(setup.prefix), now()
    async with DeadTopic.open(setup) as topic, AsyncExitStack() as sending:
        report.dead = names.dead
        spans = await topic.spans(selection.since_unix_ms)
        with progress(2 * sum(span.length for span in spans.values())) as step:
            chosen = await choose(topic.letters(spans, step), selection, limit)
            report.chosen = True
            post = Post(None if dry_run else await sending.enter_async_context(DeadSender.open(setup)), report)
            left = len(chosen.places)
            async for letter in topic.letters(spans, step):
                if letter.place not in chosen.places:
                    continue
                left -= 1
                match decide(letter, chosen, names, topic.topics, now_unix_ms):
                    case Superseded():
                        report.note(letter, "superseded")
                    case Refusal(reason=reason):
                        report.note(letter, "refused", reason)
                    case record:
                        await post.add(letter, record)
            await post.flush()
    report.gone(left)


class Post:
    """Sends what gathers in it, or only says what it would send."""

    def __init__(self, sender: DeadSender | None, report: Report) -> None:
        self._sender = sender
        self._report = report
        self._letters: list[DeadLetter] = []
        self._records: list[Replay] = []

    async def add(self, letter: DeadLetter, record: Replay) -> None:
        """Raises Unavailable, when Kafka does not answer for what was sent."""
        from embedmq.dead_sender import is_full

        if self._sender is None:
            self._report.note(letter, "would replay")
            return
        self._letters.append(letter)
        self._records.append(record)
        if is_full(self._records):
            await self.flush()

    async def flush(self) -> None:
        """Send what is there; raises Unavailable, after saying of each letter what became of it."""
        from embedmq.errors import Unavailable

        if self._sender is None or not self._records:
            return
        outcomes = await self._sender.send(self._records)
        for letter, error in zip(self._letters, outcomes, strict=True):
            if error is None:
                self._report.note(letter, "replayed")
            else:
                self._report.note(letter, "failed", str(error))
        self._letters, self._records = [], []
        if (away := next((error for error in outcomes if isinstance(error, Unavailable)), None)) is not None:
            raise away
