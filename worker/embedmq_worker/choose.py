"""Which work goes to the device next? Pure.

A lane leads (`lanes`), then the model whose oldest job of that lane has waited longest, then its tenants in turn
(`tenants`); what is left of the budget goes to the same model's other lane, since a batch costs less than two.

How long a request waits. Let `b` be `max_batch_ms` (or, if that takes longer, the largest single item), `e` what bulk
earns (`Lanes.earn`), `k` the tenants that wait for the same model and lane, and `n` the sum of `k × (2 × tokens /
budget.tokens + 2 × items / budget.items + 1)` over the models that wait on its lane when it arrives, itself included
(with several tenants each item counts as a token more, and a quantum is added). That work makes at most `n` batches,
since any two in a row of one model exceed one budget. With one batch on the device at its arrival, an interactive
request is then computed within `b × (1 + (n + 1) / (1 - e))`, and one of the bulk lane within
`b × (1 + n × (2 + 1 / e))`. Without a share for bulk (`e` = 0), bulk waits until no interactive work does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from embedmq_schemas.requests import Lane
from msgspec import Struct

from embedmq_worker.filling import Budget, Cursor, Filling
from embedmq_worker.jobs import Batch, Job
from embedmq_worker.lanes import Lanes
from embedmq_worker.tenants import QUANTUM_TOKENS, Turns

__all__ = ["Budget", "Chooser", "Queue", "budget"]


class Queue(Struct, eq=False):
    """The jobs of one model, lane and tenant, oldest first; of the first, the items below `next` are dispatched.

    `tokens` are those of all its jobs.
    """

    model: str
    lane: Lane
    tenant: str
    jobs: deque[Job]
    next: int = 0
    tokens: int = 0


def budget(tokens_per_s: float, max_batch_ms: float, max_batch_tokens: int, max_batch_items: int) -> Budget:
    """Turn device time into tokens."""
    return Budget(max(1, int(min(tokens_per_s * max_batch_ms / 1000, max_batch_tokens))), max_batch_items)


class Chooser:
    """Remembers what lanes and tenants were given, and nothing else."""

    def __init__(self, bulk_min_share: float, max_batch_ms: float, quantum_tokens: int = QUANTUM_TOKENS) -> None:
        """`bulk_min_share`: the least part of the tokens of any second that bulk gets while both lanes wait."""
        self._lanes = Lanes(bulk_min_share, max_batch_ms)
        self._quantum = quantum_tokens
        self._turns: dict[tuple[str, Lane], Turns] = {}

    def choose(self, queues: Sequence[Queue], budgets: Mapping[str, Budget], now_s: float) -> Batch | None:
        """Choose the next batch of those queues, all of models that are in memory; None when nothing waits.

        The order within one queue is kept. Costs what is taken, and a look at each queue. `now_s` is the caller's
        monotonic clock.
        """
        waiting = [queue for queue in queues if queue.jobs]
        if not waiting:
            return None
        lanes: set[Lane] = {queue.lane for queue in waiting}
        lead = self._lanes.lead(lanes)
        oldest = max(
            (queue for queue in waiting if queue.lane == lead), key=lambda queue: now_s - queue.jobs[0].arrived_s
        )
        limit = budgets[oldest.model]
        mine = [queue for queue in waiting if queue.model == oldest.model]
        filling = Filling(limit)
        self._fill(filling, oldest.model, lead, mine)
        tokens = filling.tokens
        if len(lanes) > 1 and not filling.full:
            self._fill(filling, oldest.model, "bulk" if lead == "interactive" else "interactive", mine)
        of_lead, of_other = tokens / limit.tokens, (filling.tokens - tokens) / limit.tokens
        interactive, bulk = (of_lead, of_other) if lead == "interactive" else (of_other, of_lead)
        self._lanes.charge(lead, lanes, interactive, bulk)
        return Batch(oldest.model, filling.parts, filling.items, filling.tokens)

    def _fill(self, filling: Filling, model: str, lane: Lane, queues: Sequence[Queue]) -> None:
        cursors = {queue.tenant: Cursor(queue.jobs, queue.next) for queue in queues if queue.lane == lane}
        if cursors:
            turns = self._turns.get((model, lane))
            if turns is None:
                turns = self._turns[model, lane] = Turns(self._quantum)
            turns.fill(filling, cursors)
