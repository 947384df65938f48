"""What does sentence-transformers itself say of texts, one at a time? By this everything faster is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from embedmq_schemas.results import Sparse
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.model import BaseModel
from torch import Tensor

from embedmq_worker.engine.seam import Block, Encoded

BATCH = 32
"""Texts that sentence-transformers pads together."""


def reference(model: BaseModel, texts: Sequence[str], queries: Sequence[str]) -> list[Encoded]:
    """Answers as an engine gives them, one a text; `queries` are what a cross-encoder compares the texts with."""
    pairs = zip(texts, queries, strict=True)
    return [_encoded(model, *say(model, [text], [query], None, None)) for text, query in pairs]


@torch.inference_mode()
def say(
    model: BaseModel, texts: Sequence[str], queries: Sequence[str], prompt: str | None, task: str | None
) -> list[Tensor]:
    """Of each text: its vector, dense or of the vocabulary's width; a vector for each token that counts; or its score.

    Args:
        model: Any of sentence-transformers' four kinds.
        texts: Without the prompt.
        queries: One a text, for cross-encoders.
        prompt: What they begin with; "" for none at all, None for what the model takes by itself.
        task: Which of a router's routes to take.
    """
    how: dict[str, Any] = {"prompt": prompt, "batch_size": BATCH, "show_progress_bar": False}
    how |= {} if task is None else {"task": task}
    if isinstance(model, CrossEncoder):
        return list(model.predict(list(zip(queries, texts, strict=True)), convert_to_tensor=True, **how))
    if isinstance(model, MultiVectorEncoder):
        return list(model.encode(list(texts), **how))
    if isinstance(model, SparseEncoder):
        return list(model.encode(list(texts), convert_to_sparse_tensor=False, **how))
    if isinstance(model, SentenceTransformer):
        return list(model.encode(list(texts), convert_to_tensor=True, **how))
    raise TypeError(f"a {type(model).__name__} is no kind of model known here")


def _encoded(model: BaseModel, said: Tensor) -> Encoded:
    values = said.float().cpu().numpy()
    if isinstance(model, CrossEncoder):
        return Encoded(scores=np.array([values], np.float32))
    if isinstance(model, SparseEncoder):
        words = np.flatnonzero(values)
        return Encoded(sparse=[Sparse(words.tolist(), values[words].tolist())])
    if isinstance(model, MultiVectorEncoder):
        return Encoded(multivector=[Block(values)])
    return Encoded(dense=Block(values[None]))
