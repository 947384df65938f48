"""How does a whole model run on a batch without padding?"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from embedmq_worker.engine.backbone import Backbone
from embedmq_worker.engine.heads import Heads
from embedmq_worker.engine.rows import Layout, Raw


class PackedForward:
    """One forward pass of the backbone, and every head that an output is wanted of on top of it."""

    path = "packed"

    def __init__(self, backbone: Backbone, heads: Sequence[Heads]) -> None:
        self._backbone, self._heads = backbone, tuple(heads)

    @torch.inference_mode()
    def __call__(self, layout: Layout, outputs: frozenset[str]) -> Raw:
        """See `Forward`."""
        heads = [head for head in self._heads if head.outputs & outputs]
        if not heads:
            return Raw()
        rows = self._backbone(
            layout,
            logits=any(head.needs_logits for head in heads),
            hidden=any(head.needs_hidden for head in heads),
        )
        said: dict[str, torch.Tensor] = {}
        for raw in (head(rows, head.outputs & outputs) for head in heads):
            said |= {name: value for name in raw.__slots__ if (value := getattr(raw, name)) is not None}
        return Raw(**said)
