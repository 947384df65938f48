"""How do the logits of a masked language model become weights of words? SPLADE, without padding."""

from __future__ import annotations

import torch
from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import Tensor

from embedmq_worker.engine.pooling import max_rows, sum_rows
from embedmq_worker.engine.rows import Layout

CHUNK_BYTES = 64 << 20
"""Most float32 numbers that one step of a sum makes beside the logits."""


def splade(logits: Tensor, layout: Layout, pooling: SpladePooling) -> Tensor:
    """Weights `(n, vocabulary)` in float32 of logits `(T, vocabulary)`.

    Both activations only ever rise, so the largest weight is that of the largest logit: the logarithms are taken of one
    row a sequence and not of one a token. (Formal et al., SPLADE v2, 2021; the twofold logarithm: Shen et al., 2025.)
    """
    twice = pooling.activation_function == "log1p_relu"
    if pooling.pooling_strategy == "max":
        return _activate(_largest(logits, layout).float(), twice)
    columns = max(1, CHUNK_BYTES // (4 * max(1, logits.shape[0])))
    chunks = [sum_rows(_activate(part.float(), twice), layout) for part in torch.split(logits, columns, dim=1)]
    return torch.cat(chunks, dim=1)


def _largest(logits: Tensor, layout: Layout) -> Tensor:
    if logits.is_cuda:  # its kernel reads each number once, where a scatter contends for each word's maximum
        return torch.segment_reduce(logits, "max", offsets=layout.starts.long(), unsafe=True)
    return max_rows(logits, layout)


def _activate(logits: Tensor, twice: bool) -> Tensor:
    weights = logits.relu().log1p()
    return weights.log1p() if twice else weights
