"""What must every way through the engine agree with? The checkpoints, opened and checked, and their own words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from msgspec import structs
from sentence_transformers import CrossEncoder
from sentence_transformers.base.model import BaseModel

from embedmq_worker.config import Model
from embedmq_worker.engine import parity
from embedmq_worker.engine.checkpoint import Checkpoint
from embedmq_worker.engine.describe import describe, longest, output_of, shorten
from embedmq_worker.engine.kinds import kind_of
from embedmq_worker.engine.opening import damaged, open_model
from embedmq_worker.engine.reference import reference
from embedmq_worker.engine.seam import Encoded, ModelFacts
from embedmq_worker.engine.shared import difference
from embedmq_worker.engine.tokenizer import open_texts
from embedmq_worker.engine.tokens import Texts
from embedmq_worker.errors import CheckpointBroken

LARGE_BYTES = 4 << 30
"""Weights on disk from which the reference is taken in their own dtype: in float32 they might not fit the device."""

Open = Callable[[str], list[BaseModel]]
"""Opens all checkpoints of a model to compute in a dtype."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What all ways of a model have in common, and what they are judged by."""

    model: Model
    device: torch.device
    open: Open
    texts: Texts
    facts: ModelFacts
    wanted: Sequence[Encoded]
    exact: bool
    """Whether `wanted` was computed in float32."""

    def bounds(self, dtype: str) -> parity.Bounds:
        """What is asked of a way that computes in a dtype."""
        return parity.FULL if self.exact and dtype == "float32" else parity.HALF


def open_trial(model: Model, located: Sequence[Checkpoint], device: torch.device) -> Trial:
    """Open the checkpoints once, and let sentence-transformers say what is right.

    Raises:
        CheckpointBroken: a number that is none, a classifier of several labels, heads that do not belong together.
        Exception: whatever the libraries beneath raise.
    """
    folders = [Path(checkpoint.source) for checkpoint in located]
    exact = sum(file.stat().st_size for folder in folders for file in folder.rglob("*.safetensors")) <= LARGE_BYTES

    def opened(dtype: str) -> list[BaseModel]:
        trust, place = model.trust_remote_code, str(device)
        models = [open_model(str(path), kind_of(path), place, dtype, trust_remote_code=trust) for path in folders]
        shorten(models, longest(models, model.max_tokens))
        return models

    models = opened("float32" if exact else "auto")
    check(models, (model.checkpoint, *model.heads))
    facts = describe(models, longest(models, model.max_tokens), "+".join(checkpoint.revision for checkpoint in located))
    wanted: list[list[Encoded]] = []
    for each, text in zip(models, (model.checkpoint, *model.heads), strict=True):
        wanted.append(reference(each, parity.PROBES, parity.queries()))
        if not parity.finite(wanted[-1]):
            raise CheckpointBroken(f"{text}: sentence-transformers itself computes numbers that are none (NaN)")
    texts = open_texts(models[0], facts.max_tokens, facts.vocabulary)
    return Trial(model, device, opened, texts, facts, merge(wanted), exact)


def check(models: Sequence[BaseModel], texts: Sequence[str]) -> None:
    """Refuse what cannot be served; `texts` is what was configured.

    Raises:
        CheckpointBroken: with which, and why.
    """
    for text, each in zip(texts, models, strict=True):
        if (name := damaged(each)) is not None:
            raise CheckpointBroken(f"{text}: {name} has numbers that are none (NaN or infinite)")
        if isinstance(each, CrossEncoder) and each.num_labels != 1:
            raise CheckpointBroken(f"{text}: it gives {each.num_labels} labels, where a score is one number")
        if (name := difference(models[0], each)) is not None:
            raise CheckpointBroken(f"{text}: not the transformer of {texts[0]}: they differ in {name}")
    outputs = [output_of(each) for each in models]
    if len(set(outputs)) < len(outputs) or (len(outputs) > 1 and "scores" in outputs):
        raise CheckpointBroken(f"{texts[0]}: heads must give different kinds of vectors, but give {', '.join(outputs)}")


def merge(answers: Sequence[Sequence[Encoded]]) -> list[Encoded]:
    """One answer of several models that have different outputs."""
    merged: list[Encoded] = []
    for several in zip(*answers, strict=True):
        fields = [{name: value for name, value in structs.asdict(one).items() if value is not None} for one in several]
        merged.append(Encoded(**{name: value for own in fields for name, value in own.items()}))
    return merged
