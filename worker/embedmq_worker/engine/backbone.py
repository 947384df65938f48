"""How does a stock Hugging Face model run on a batch without padding?"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from embedmq_worker.engine import attention
from embedmq_worker.engine.describe import learned_places
from embedmq_worker.engine.kernels import Kernel, Sequences, choose
from embedmq_worker.engine.layout import pack
from embedmq_worker.engine.rows import Layout, Rows, Unpackable
from embedmq_worker.engine.stock import StockHead

TASKS = {"feature-extraction": "last_hidden_state", "fill-mask": "logits", "sequence-classification": "logits"}
"""What sentence-transformers reads of a model, by what it is loaded for."""


class Backbone:
    """A model that is shown all sequences of a batch as one row, with places and attention of each its own.

    The model is shared, not changed: on its own way it computes what it did before. One thread at a time.
    """

    def __init__(self, model: PreTrainedModel, kernel: Kernel) -> None:
        base = model.base_model
        takes = inspect.signature(base.forward).parameters
        self._base, self._kernel = base, kernel
        self._head = StockHead(model) if base is not model else None
        self._configs = _configs(model)
        self._takes_types = "token_type_ids" in takes
        self._fixed = {"use_cache": False} if "use_cache" in takes else {}
        self._offset, _ = learned_places(base)

    def __call__(self, layout: Layout, *, logits: bool = False, hidden: bool = True) -> Rows:
        """One forward pass; `logits` only of a model with a head.

        Raises:
            AttentionUnsupported: the model's attention asks for what the kernel cannot do.
        """
        if self._takes_types:  # said even where all are 0: left out, some models look them up by 64-bit places
            types = {"token_type_ids": (torch.zeros_like(layout.ids) if layout.types is None else layout.types)[None]}
        else:
            types = {}
        positions = layout.positions + self._offset if self._offset else layout.positions
        sequences = Sequences(layout, self._kernel, max(layout.lengths))
        with self._packed():
            output = self._base(
                input_ids=layout.ids[None], position_ids=positions[None], sequences=sequences, **types, **self._fixed
            )
        states: Tensor = output.last_hidden_state[0]
        said = self._head(output, layout) if logits and self._head else None
        return Rows(layout, states if hidden else None, said)

    @contextmanager
    def _packed(self) -> Iterator[None]:
        """Exchange the attention for one pass: microseconds, where the public setter walks through all modules."""
        before = [config._attn_implementation for config in self._configs]
        try:
            for config in self._configs:
                config._attn_implementation = attention.NAME
            yield
        finally:
            for config, name in zip(self._configs, before, strict=True):
                config._attn_implementation = name


def open_backbone(transformer: Transformer) -> Backbone | Unpackable:
    """Take the model of a `Transformer` module for packed batches, after a trial of three tokens; or say why not."""
    model = transformer.model
    if (reason := _hindrance(transformer, model)) is not None:
        return Unpackable(reason)
    kernel = choose(model.device, model.dtype)
    if isinstance(kernel, Unpackable):
        return kernel
    attention.register()
    trial = pack([np.array([1, 2], np.int32), np.array([3], np.int32)], model.device)
    try:
        backbone = Backbone(model, kernel)
        with torch.inference_mode():
            backbone(trial, logits=model.base_model is not model)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a model's own code may throw anything, and each means the same
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Unpackable(f"a {type(model).__name__} does not run without padding: {first}")
    return backbone


def _hindrance(transformer: Transformer, model: object) -> str | None:
    name, task = type(model).__name__, transformer.transformer_task
    if not isinstance(model, PreTrainedModel):
        return f"a {name} is no model of torch"
    text = transformer.modality_config.get("text")
    if text is None or text["method"] != "forward" or text["method_output_name"] != TASKS.get(task, ""):
        return f"of a {name}, something else than its last layer or its logits is read ({task})"
    if model.config.is_encoder_decoder:
        return f"a {name} is an encoder and a decoder"
    if model.config.get_text_config() is not model.config:
        return f"a {name} is not of text only"
    for part in model.modules():
        if isinstance(part, PreTrainedModel) and not part._supports_attention_backend:
            return f"the attention of a {type(part).__name__} cannot be exchanged"
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        return f"a {name} takes no positions"
    return None


def _configs(model: nn.Module) -> list[PretrainedConfig]:
    """Every configuration that a part of the model may look its attention up in."""
    found = (getattr(part, "config", None) for part in model.modules())
    return list({id(config): config for config in found if isinstance(config, PretrainedConfig)}.values())
