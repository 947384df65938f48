"""How does a sentence-transformers model run on texts of mixed lengths? Sorted by length, padded little."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from torch import nn

from embedmq_worker.engine.checkpoint import Checkpoint
from embedmq_worker.engine.finish import finish
from embedmq_worker.engine.finished import Floats
from embedmq_worker.engine.null import Done
from embedmq_worker.engine.rows import Raw
from embedmq_worker.engine.seam import Ask, Ids, ModelFacts, Prepared, Slice
from embedmq_worker.engine.tokens import Texts

PADDING_TOKENS = 48
"""A forward pass costs about as much as this many tokens of padding: more padding, and two passes are cheaper."""

MEASURE_TOKENS, MEASURE_ROWS, MEASURE_PASSES = 64, 12, 5


class PaddedEngine:
    """A model whose own modules compute the vectors; texts are tokenized, batched and finished here."""

    def __init__(self, model: SentenceTransformer, checkpoint: Checkpoint, max_tokens: int | None) -> None:
        self._model = model.eval()
        modules = list(model.children())
        self._normalizes = isinstance(modules[-1], Normalize)
        self._modules = nn.ModuleList(modules[:-1] if self._normalizes else modules)
        longest = min(int(model.max_seq_length or 512), max_tokens or 1_000_000)
        tokenizer = model.tokenizer.backend_tokenizer
        vocabulary = len(model.tokenizer)
        prompts = {name: text for name, text in model.prompts.items() if text is not None}
        self._texts = Texts(tokenizer, longest, vocabulary, prompts)
        self._pad = int(model.tokenizer.pad_token_id or 0)
        self.facts = ModelFacts(
            dimensions=int(model.get_embedding_dimension() or 0),
            max_tokens=longest,
            prompts=tuple(prompts),
            vocabulary=vocabulary,
            revision=checkpoint.revision,
            computed_in=str(next(model.parameters()).dtype).removeprefix("torch."),
            path="padded",
            bytes=sum(parameter.nbytes for parameter in model.parameters()),
            tokens_per_s=self._measure(longest),
        )

    def prepare(self, asks: Sequence[Ask]) -> list[Prepared]:
        """Tokenize; see `Texts.prepare`."""
        return self._texts.prepare(asks)

    def free_cache(self) -> None:
        """Nothing to give back."""

    def launch(self, batch: Sequence[Slice]) -> Done:
        """One forward pass for each group of like lengths; every slice is finished by its own options."""
        ids = [row for part in batch for row in (part.prepared.ids or [])[part.start : part.stop]]
        ids = [row for row in ids if len(row)]
        vectors = np.empty((len(ids), self.facts.dimensions), np.float32)
        for group in group_by_length([len(row) for row in ids]):
            vectors[group] = self._forward([ids[i] for i in group])
        normalizes = frozenset(("dense",) if self._normalizes else ())
        return Done(finish(Raw(dense=torch.from_numpy(vectors)), batch, normalizes).collect())

    def close(self) -> None:
        """Let the weights go with the last reference."""
        del self._model, self._modules

    @torch.inference_mode()
    def _forward(self, rows: list[Ids]) -> Floats:
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._pad, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.from_numpy(row)
            mask[i, : len(row)] = 1
        device = self._model.device
        features = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        for module in self._modules:
            features = module(features)
        vectors: Floats = features["sentence_embedding"].float().cpu().numpy()
        return vectors

    def _measure(self, longest: int) -> float:
        """Tokens per second on texts of middling length: the best of a few passes, since others disturb, none help."""
        rows = [np.full(min(MEASURE_TOKENS, longest), self._pad + 1, np.int32)] * MEASURE_ROWS
        took_s: list[float] = []
        for _ in range(1 + MEASURE_PASSES):  # the first one warms up
            start_s = time.perf_counter()
            self._forward(rows)
            took_s.append(time.perf_counter() - start_s)
        return MEASURE_ROWS * len(rows[0]) / min(took_s[1:])


def group_by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in groups of like length, empty rows left out: a group ends where its padding would cost a pass."""
    group: list[int] = []
    padding = 0
    for index in sorted((i for i, length in enumerate(lengths) if length), key=lambda i: lengths[i], reverse=True):
        padding += lengths[group[0]] - lengths[index] if group else 0
        if padding > PADDING_TOKENS:
            yield group
            group, padding = [], 0
        group.append(index)
    if group:
        yield group
