"""Are several checkpoints one transformer with different heads, and whose transformer computes for all?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from sentence_transformers.base.model import BaseModel
from torch import Tensor

UNUSED = ("pooler.",)
"""Weights that some of transformers' classes leave out, and no output here is computed from."""


def leader(models: Sequence[BaseModel]) -> BaseModel:
    """The model whose transformer runs: the first, or the one that is a masked language model.

    Its hidden states serve the others, while theirs lack its logits.
    """
    masked = [model for model in models if _masked(model)]
    return masked[0] if masked else models[0]


def difference(one: BaseModel, other: BaseModel) -> str | None:
    """Name of a weight in which the transformers of two models differ; None where they are the same, byte by byte."""
    weights, others = _weights(one), _weights(other)
    for name in sorted({*weights, *others}):
        if not name.startswith(UNUSED) and not _same(weights.get(name), others.get(name)):
            return name
    return None


def _masked(model: BaseModel) -> bool:
    return model.transformers_model is not None and model.transformers_model is not model.transformers_model.base_model


def _weights(model: BaseModel) -> dict[str, Tensor]:
    transformer = model.transformers_model
    return {} if transformer is None else dict(transformer.base_model.named_parameters())


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and one.shape == other.shape and torch.equal(one, other)
