"""What does the head of a stock Hugging Face model make of a batch without padding?"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.utils.generic import ModelOutput

from embedmq_worker.engine.pooling import sum_rows
from embedmq_worker.engine.rows import Layout


class StockHead:
    """The layers of a model above its base.

    They are run by the model's own code, in a copy that shares every weight but has a stand-in where the base was:
    it answers with what the base has computed already. A classifier is thereby shown a batch of sequences of one
    token each, the one that it would look at, so that no head needs to be known here.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._base = model.base_model
        self._given = _Given()
        self._model = copy.copy(model)
        self._model._modules = {**model._modules, model.base_model_prefix: self._given}
        self._by_token = model.get_output_embeddings() is not None  # type: ignore[no-untyped-call]  # transformers types some
        self._last = isinstance(model, GenericForSequenceClassification)
        self._mean = getattr(model.config, "classifier_pooling", "cls") == "mean"
        self._pad = model.config.pad_token_id

    def __call__(self, output: ModelOutput, layout: Layout) -> Tensor:
        """Logits: `(T, vocabulary)` of a language model, `(n, labels)` of a classifier; `output` is used up."""
        ids = layout.ids[None]
        if not self._by_token:
            looked_at = self._looked_at(layout)
            states = output["last_hidden_state"][0]
            states = self._average(states, layout) if self._mean else states[looked_at]
            output["last_hidden_state"] = states[:, None]
            if output.get("pooler_output") is not None:
                output["pooler_output"] = self._base.get_submodule("pooler")(states[:, None])
            ids = layout.ids[looked_at][:, None]
        self._given.output = output
        try:
            logits: Tensor = self._model(input_ids=ids).logits
        finally:
            self._given.output = None
        return logits[0] if self._by_token else logits

    def _looked_at(self, layout: Layout) -> Tensor:
        """`(n,)` of each sequence the token that its classifier looks at: the first, or the last that is no padding."""
        first = layout.starts[:-1]
        if not self._last:
            return first
        places = torch.arange(len(layout.ids), device=first.device, dtype=first.dtype)
        if self._pad is not None:
            places = torch.where(layout.ids == self._pad, first[layout.rows], places)
        return first.scatter_reduce(0, layout.rows.long(), places, "amax")

    @staticmethod
    def _average(states: Tensor, layout: Layout) -> Tensor:
        lengths = layout.starts[1:] - layout.starts[:-1]
        return (sum_rows(states.float(), layout) / lengths[:, None]).to(states.dtype)


class _Given(nn.Module):
    """Answers with what it was given."""

    output: ModelOutput | None = None

    def forward(self, *_: object, **__: object) -> ModelOutput | None:
        return self.output
