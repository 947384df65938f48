"""How is an engine put together, on each of the ways that there are?"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Transformer

from embedmq_worker.engine.backbone import open_backbone
from embedmq_worker.engine.describe import output_of
from embedmq_worker.engine.heads import Heads, open_heads
from embedmq_worker.engine.packed import PackedForward
from embedmq_worker.engine.padding import PaddedForward
from embedmq_worker.engine.plain import PlainEngine
from embedmq_worker.engine.prepack import prepack
from embedmq_worker.engine.rows import Unpackable
from embedmq_worker.engine.seam import ModelFacts
from embedmq_worker.engine.shared import leader
from embedmq_worker.engine.tokens import Texts
from embedmq_worker.engine.transformer import TransformerEngine

Built = TransformerEngine | PlainEngine

PATHS = ("packed", "padded", "sentence-transformers")
"""The faster first."""


def build(path: str, models: Sequence[BaseModel], texts: Texts, facts: ModelFacts) -> Built | Unpackable:
    """An engine for models that share a transformer, on one of `PATHS`; a reason where they cannot take it."""
    computed_in = str(models[0].dtype).removeprefix("torch.")
    size = sum(weights.nbytes for weights in leader(models).parameters())
    facts = structs.replace(facts, path=path, computed_in=computed_in, bytes=size)
    if path == "packed":
        return _packed(models, texts, facts)
    if len(models) > 1:
        return Unpackable("several heads are computed together on the packed path alone")
    if path == "padded":
        return _padded(models[0], texts, facts)
    return PlainEngine(models[0], texts, facts)


def _packed(models: Sequence[BaseModel], texts: Texts, facts: ModelFacts) -> Built | Unpackable:
    lead = leader(models)
    transformer = lead[0]
    if not isinstance(transformer, Transformer):
        return Unpackable(f"its first module is a {type(transformer).__name__}, no transformer")
    heads: list[Heads] = []
    for model in models:
        opened = open_heads(model)
        if isinstance(opened, Unpackable):
            return opened
        heads.append(opened)
    backbone = open_backbone(transformer)
    if isinstance(backbone, Unpackable):
        return backbone
    prepack(transformer.model.base_model)
    normalizes = frozenset(output for head in heads for output in head.normalizes)
    return TransformerEngine(PackedForward(backbone, heads), texts, normalizes, lead.device, facts)


def _padded(model: BaseModel, texts: Texts, facts: ModelFacts) -> Built | Unpackable:
    if not isinstance(model[0], Transformer):
        return Unpackable(f"its first module is a {type(model[0]).__name__}, no transformer")
    forward = PaddedForward(model)
    normalizes = frozenset((output_of(model),) if forward.normalizes else ())
    return TransformerEngine(forward, texts, normalizes, model.device, facts)
