"""What becomes of the rows of one request?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from embedmq.bulk.errors import JobStopped, RevisionChanged
from embedmq.bulk.order import Order
from embedmq.bulk.patience import Patience
from embedmq.bulk.rows import Flaw, Vectors
from embedmq.bulk.selection import Chosen
from embedmq.embeddings import Embeddings
from embedmq.errors import Overloaded, RequestFailed, Unavailable

if TYPE_CHECKING:
    from embedmq.client import Client

HOPELESS = frozenset({"unknown_model", "unsupported"})
"""Codes that every further row would get, too."""
PASSING = frozenset({"model_unavailable", "quota_exceeded", "deadline_exceeded", "undeliverable"})
"""Codes that say nothing of the rows."""


class Embedded(Struct, frozen=True):
    """Rows with their vectors, rows that failed, and by which revision they were computed; None where none was."""

    vectors: Sequence[Vectors]
    flaws: Sequence[Flaw]
    tokens: int
    revision: str | None


async def embed_rows(client: Client, order: Order, rows: Sequence[Chosen], patience: Patience) -> Embedded:
    """Ask for the vectors of some rows until there is an answer. One that fails whole is asked for by halves, so that
    a bad row does not hurt its neighbours.

    Raises:
        JobStopped: an answer that further rows would get, too. Unavailable, RequestFailed: out of patience.
    """
    while True:
        try:
            answer = await _ask(client, order, rows)
        except (Unavailable, Overloaded) as error:
            await patience.wait(error)
        except RequestFailed as error:
            if error.code in HOPELESS:
                raise JobStopped(f"{order.model}: {error}") from error
            if error.retryable or error.code in PASSING:
                await patience.wait(error, error.retry_after_s)
            elif len(rows) == 1:
                return Embedded((), [flaw_of(rows[0], error.code, str(error))], 0, None)
            else:
                middle = len(rows) // 2
                first = await embed_rows(client, order, rows[:middle], patience)
                return _joined(first, await embed_rows(client, order, rows[middle:], patience))
        else:
            patience.well()
            return _read(answer, rows)


async def _ask(client: Client, order: Order, rows: Sequence[Chosen]) -> Embeddings:
    return await client.embed(
        order.model,
        [each.row.text for each in rows],
        lane="bulk",
        timeout_s=None,
        on_error="return",
        **order.options(),
    )


def _read(answer: Embeddings, rows: Sequence[Chosen]) -> Embedded:
    failures = answer.failures
    good = [i for i in range(len(rows)) if i not in failures]
    kept = [rows[i].row for i in good]
    vectors = Vectors(
        ids=[row.id for row in kept],
        hashes=[rows[i].hash for i in good],
        dense=answer.dense if len(good) == len(rows) else answer.dense[good],
        kept=[row.kept for row in kept],
    )
    flaws = [flaw_of(rows[i], failure.code, failure.message) for i, failure in failures.items()]
    return Embedded([vectors] if kept else (), flaws, sum(answer.tokens), answer.revision)


def stack(parts: Sequence[Vectors]) -> Vectors | None:
    """Several pieces as one, in order; None for nothing."""
    if len(parts) <= 1:
        return parts[0] if parts else None
    return Vectors(
        ids=[id for part in parts for id in part.ids],
        hashes=[hash for part in parts for hash in part.hashes],
        dense=np.concatenate([part.dense for part in parts]),
        kept=[each for part in parts for each in part.kept],
    )


def _joined(first: Embedded, second: Embedded) -> Embedded:
    revisions = {each.revision for each in (first, second)} - {None}
    if len(revisions) > 1:
        raise RevisionChanged(f"the fleet serves revisions {' and '.join(sorted(map(repr, revisions)))} at once: wait")
    return Embedded(
        [*first.vectors, *second.vectors],
        [*first.flaws, *second.flaws],
        first.tokens + second.tokens,
        second.revision if first.revision is None else first.revision,
    )


def flaw_of(chosen: Chosen, code: str, message: str) -> Flaw:
    """A row that failed, and why."""
    row = chosen.row
    return Flaw(chosen.place, code, message, row.id, row.text, row.kept)
