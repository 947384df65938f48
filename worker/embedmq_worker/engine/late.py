"""Which tokens of a text count for late interaction?"""

from __future__ import annotations

import torch
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import Tensor


class TokenMask:
    """A model's own rule for documents, asked once of every word and then looked up.

    Comparing ids with a list, as the rule does, makes the host wait for the device. Every item counts as a document:
    what sentence-transformers does to *queries* beside their prompt (it fills them up with mask tokens, spares them the
    skiplist, cuts them shorter) is not done here.
    """

    def __init__(self, rule: MultiVectorMask, vocabulary: int, device: torch.device) -> None:
        everything = {"input_ids": torch.arange(vocabulary)[None], "attention_mask": torch.ones(1, vocabulary)}
        counts = rule(everything)["attention_mask"][0].bool()
        self._counts = None if bool(counts.all()) else counts.to(device)

    def __call__(self, ids: Tensor) -> Tensor | None:
        """`(T,)` which tokens count; None where all do."""
        return None if self._counts is None else self._counts[ids]
