"""Which engine does a configured model get?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmq_worker.engine import null

if TYPE_CHECKING:
    from embedmq_worker.config import Model
    from embedmq_worker.engine.seam import Engine


def load(model: Model, device: str) -> Engine:
    """Load one model onto a device (`auto`, `cpu`, `cuda:1`, …): seconds to minutes, so never on the event loop.

    Raises:
        WorkerError: it does not exist, is not safe, is broken or no model for this, or does not fit; see `errors`.
    """
    kind, _, rest = model.checkpoint.partition(":")
    if kind == "null":
        return null.parse(rest)
    # torch takes seconds to import: a worker of null models, and every command but `worker`, does without
    from embedmq_worker.engine.paths import load_checkpoint

    return load_checkpoint(model, device)
