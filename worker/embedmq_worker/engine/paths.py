"""Which way through the engine does a model take, and in which dtype? The fastest that gives the reference's vectors.

The checkpoints are located, opened, and asked for the reference; then one way after the other is tried: `packed`,
`padded`, and as last resort sentence-transformers itself. The first one that passes the gate in some dtype is taken,
in the dtype that is fastest on it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from msgspec import structs
from sentence_transformers.base.model import BaseModel

from embedmq_worker.config import Model
from embedmq_worker.engine import compute, parity
from embedmq_worker.engine.build import PATHS, Built, build
from embedmq_worker.engine.checkpoint import locate
from embedmq_worker.engine.devices import resolve
from embedmq_worker.engine.failures import loading
from embedmq_worker.engine.rows import Unpackable
from embedmq_worker.engine.seam import Engine
from embedmq_worker.engine.trial import Trial, open_trial
from embedmq_worker.errors import CheckpointBroken
from embedmq_worker.heap import keep_large_buffers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way that gives the reference's vectors, in one dtype."""

    engine: Built
    model: BaseModel
    verdict: parity.Verdict
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a way is not taken; `judged` by the gate, or not open to this model at all."""

    reason: str
    judged: bool


def load_checkpoint(model: Model, device: str) -> Engine:
    """Load the checkpoints of one configured model, and choose how to run them.

    Raises:
        WorkerError: they are not there, unsafe, broken, of no one transformer, or do not fit the device.
    """
    located = [locate(text, trust_remote_code=model.trust_remote_code) for text in (model.checkpoint, *model.heads)]
    with loading(f"{model.checkpoint} on {device}"):
        place = torch.device(resolve(device))
        if place.type == "cpu":
            keep_large_buffers()
        return _choose(open_trial(model, located, place))


def _choose(trial: Trial) -> Engine:
    """Take the first way on which some dtype passes the gate."""
    refusals: list[str] = []
    for path in PATHS if trial.model.path == "auto" else (trial.model.path,):
        found = _fastest(trial, path)
        if isinstance(found, Candidate):
            return _measured(trial, found, refusals)
        if found.judged:
            log.error("path_refused", extra={"model": trial.model.checkpoint, "path": path, "reason": found.reason})
        refusals.append(f"{path}: {found.reason}")
    raise CheckpointBroken(f"{trial.model.checkpoint}: no way to run it gives its vectors: {'; '.join(refusals)}")


def _fastest(trial: Trial, path: str) -> Candidate | Refusal:
    """The dtype that is clearly fastest on one way, or why there is none. Losers give their memory back at once."""
    best: Candidate | None = None
    refusals: list[Refusal] = []
    for dtype in compute.candidates(trial.model.dtype, trial.device):
        if best is not None and dtype == "float32":
            continue  # behind another it is a resort only: no GPU is faster in it, and it takes twice the memory
        found = _try(trial, path, dtype)
        if isinstance(found, Refusal):
            refusals.append(found)
        elif best is None or compute.beats(found.tokens_per_s, best.tokens_per_s):
            if best is not None:
                best.engine.close()
            best = found
        else:
            found.engine.close()
    reasons = dict.fromkeys(refusal.reason for refusal in refusals)
    return best or Refusal("; ".join(reasons), any(refusal.judged for refusal in refusals))


def _try(trial: Trial, path: str, dtype: str) -> Candidate | Refusal:
    """Build and judge one way in one dtype; a reason where it is not to be taken."""
    models = trial.open(dtype)
    engine = build(path, models, trial.texts, trial.facts)
    if isinstance(engine, Unpackable):
        return Refusal(engine.reason, judged=False)
    verdict = parity.compare(parity.probing(engine), trial.wanted, trial.bounds(dtype))
    if verdict.passed:
        return Candidate(engine, models[0], verdict, compute.rate(engine))
    engine.close()
    extra = {"model": trial.model.checkpoint, "path": path, "dtype": dtype, "figure": round(verdict.figure, 6)}
    log.info("dtype_refused", extra={**extra, "reason": str(verdict)})
    return Refusal(f"{verdict} in {dtype}", judged=True)


def _measured(trial: Trial, best: Candidate, refusals: Sequence[str]) -> Engine:
    """Add to the facts what only running it told."""
    engine, facts = best.engine, best.engine.facts
    tokens = compute.full_batch_tokens(best.tokens_per_s, facts.max_tokens)
    engine.facts = structs.replace(
        facts,
        reason="; ".join((f"{facts.path}: {best.verdict} in {facts.computed_in}", *refusals)),
        tokens_per_s=best.tokens_per_s,
        workspace_bytes=compute.workspace_bytes(engine, best.model, trial.device, tokens),
    )
    return engine
