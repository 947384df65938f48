"""What does each configured model take when it is really loaded?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from embedmq_schemas.check import MISCONFIGURED, Check, Look
from embedmq_schemas.limits import MIB

from embedmq_worker.config import Config, Model
from embedmq_worker.engine.load import load
from embedmq_worker.engine.seam import Engine
from embedmq_worker.errors import WorkerError

LOAD: Final = Look(
    name="load",
    at="with `--load`: each model, really loaded on its device as a worker does, one after the other (a model of the "
    "hub is fetched): seconds, memory, the way it is computed",
    bad_is="it is refused, does not fit, or no way of computing it gives its vectors",
    remedy="what is said names the file or the setting; a worker would answer its requests with model_unavailable",
    exit_code=MISCONFIGURED,
)


def loads(config: Config) -> Iterator[Check]:
    """Load one model after the other, and give its memory back."""
    for name, model in config.models.items():
        yield _load(name, model, config.worker.device)


def _load(name: str, model: Model, device: str) -> Check:
    began_s = time.perf_counter()
    try:
        engine = load(model, device)
    except WorkerError as error:
        return LOAD.bad(str(error), of=name)
    took_s = time.perf_counter() - began_s
    try:
        return LOAD.good(_told(engine, took_s), of=name)
    finally:
        engine.close()


def _told(engine: Engine, took_s: float) -> str:
    facts = engine.facts
    weights, batch = facts.bytes / MIB, facts.workspace_bytes / MIB
    return (
        f"{took_s:.1f} s; {weights:,.0f} MiB, and up to {batch:,.0f} MiB for a batch; {facts.path} in "
        f"{facts.computed_in}, {facts.tokens_per_s:,.0f} tokens/s"
    )
