"""How does a model run whose attention cannot do without padding? In groups of like length, padded little."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Normalize
from torch import Tensor

from embedmq_worker.engine.describe import ENDS
from embedmq_worker.engine.heads import ending
from embedmq_worker.engine.rows import Layout, Raw

PADDING_TOKENS = 48
"""A forward pass costs about as much as this many tokens of padding: more padding, and two passes are cheaper."""

GPU_PADDING_TOKENS = 4_096
"""The same on a GPU, where a pass is hundreds of launches: an estimate, 2 ms at 2 million tokens a second."""

Features = dict[str, Any]
"""As sentence-transformers' modules pass them on: tensors, and the length of a prompt."""


class PaddedForward:
    """A model's own modules, all but the `Normalize` that they may end with."""

    path = "padded"

    def __init__(self, model: BaseModel) -> None:
        modules = list(model.children())
        self._output, self._key = next((output, key) for kind, output, key in ENDS if isinstance(model, kind))
        last = modules[-1]
        self.normalizes = isinstance(last, Normalize) and last.module_output_name == self._key
        """Whether the model itself would normalise what comes out."""
        self._modules = modules[:-1] if self.normalizes else modules
        self._finish = ending(model)
        self._pad = int(model.tokenizer.pad_token_id or 0)
        self._left = model.tokenizer.padding_side == "left"
        self._padding_tokens = PADDING_TOKENS if model.device.type == "cpu" else GPU_PADDING_TOKENS

    @torch.inference_mode()
    def __call__(self, layout: Layout, outputs: frozenset[str]) -> Raw:
        """See `Forward`; a model here has one output. The host may wait for the device."""
        if self._output not in outputs:
            return Raw()
        found: dict[int, Tensor] = {}
        counted: dict[int, Tensor] = {}
        for group, skip in _groups(layout, self._padding_tokens):
            features = self._features(layout, group, skip)
            tokens: Tensor = features["attention_mask"].bool()
            for module in self._modules:
                features = module(features)
            rows = list(features[self._key])
            if self._output == "multivector":
                rows = [row[own] for row, own in zip(rows, tokens, strict=True)]
                masks = features["attention_mask"].bool()  # which tokens count; without the module that says so, all do
                counted |= zip(group, [mask[own] for mask, own in zip(masks, tokens, strict=True)], strict=True)
            found |= zip(group, rows, strict=True)
        order = range(len(layout.lengths))
        if self._output == "multivector":
            return Raw(tokens=torch.cat([found[i] for i in order]).float(), kept=torch.cat([counted[i] for i in order]))
        return self._finish(torch.stack([found[i] for i in order]))

    def _features(self, layout: Layout, group: list[int], skip: int) -> Features:
        """What a tokenizer would have made of these rows."""
        device = layout.ids.device
        chosen = torch.tensor(group, device=device)
        lengths = (layout.starts[1:] - layout.starts[:-1])[chosen][:, None]
        width = layout.lengths[group[0]]
        place = torch.arange(width, device=device) - ((width - lengths) if self._left else 0)
        mask = (place >= 0) & (place < lengths)
        index = torch.where(mask, layout.starts[chosen][:, None] + place, 0)
        features: Features = {
            "input_ids": layout.ids[index].long().masked_fill(~mask, self._pad),
            "attention_mask": mask.long(),
        }
        if layout.types is not None:
            features["token_type_ids"] = layout.types[index].long().masked_fill(~mask, 0)
        if skip:
            features["prompt_length"] = skip
        return features


def _groups(layout: Layout, padding_tokens: int) -> Iterator[tuple[list[int], int]]:
    """Rows that run together, and how many of their leading tokens are not pooled: a module knows one number a pass."""
    skips = [0] * len(layout.lengths) if layout.skips is None else layout.skips.tolist()
    for skip in sorted(set(skips)):
        rows = [i for i, own in enumerate(skips) if own == skip]
        for group in group_by_length([layout.lengths[i] for i in rows], padding_tokens):
            yield [rows[i] for i in group], skip


def group_by_length(lengths: Sequence[int], padding_tokens: int = PADDING_TOKENS) -> Iterator[list[int]]:
    """Indices in groups of like length, longest first: a group ends where its padding would cost a pass."""
    group: list[int] = []
    padding = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        padding += lengths[group[0]] - lengths[index] if group else 0
        if padding > padding_tokens:
            yield group
            group, padding = [], 0
        group.append(index)
    if group:
        yield group
