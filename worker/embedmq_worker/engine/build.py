"""How is an engine put together, on each of the ways that there are?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import structs
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer

from embedmq_worker.engine.backbone import open_backbone
from embedmq_worker.engine.describe import output_of
from embedmq_worker.engine.heads import Heads, open_heads
from embedmq_worker.engine.packed import PackedForward
from embedmq_worker.engine.padding import PaddedForward
from embedmq_worker.engine.plain import PlainEngine
from embedmq_worker.engine.prompts import Prompts
from embedmq_worker.engine.rows import Unpackable
from embedmq_worker.engine.seam import ModelFacts
from embedmq_worker.engine.shared import leader
from embedmq_worker.engine.tokens import Texts
from embedmq_worker.engine.transformer import TransformerEngine


@dataclass(frozen=True, slots=True)
class Reader:
    """What turns a model's requests into tokens."""

    texts: Texts
    prompts: Prompts


Built = TransformerEngine | PlainEngine

PATHS = ("packed", "padded", "sentence-transformers")
"""The faster first."""


def build(path: str, models: Sequence[BaseModel], reader: Reader, facts: ModelFacts) -> Built | Unpackable:
    """An engine for models that share a transformer, on one of `PATHS`; a reason where they cannot take it."""
    computed_in = str(models[0].dtype).removeprefix("torch.")
    size = sum(weights.nbytes for weights in leader(models).parameters())
    facts = structs.replace(facts, path=path, computed_in=computed_in, bytes=size)
    if path == "packed":
        return _packed(models, reader, facts)
    if len(models) > 1:
        return Unpackable("several heads are computed together on the packed path alone")
    if path == "padded":
        return _padded(models[0], reader, facts)
    return PlainEngine(models[0], reader.texts, reader.prompts, facts)


def _packed(models: Sequence[BaseModel], reader: Reader, facts: ModelFacts) -> Built | Unpackable:
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
    normalizes = frozenset(output for head in heads for output in head.normalizes)
    return TransformerEngine(PackedForward(backbone, heads), reader.texts, normalizes, lead.device, facts)


def _padded(model: BaseModel, reader: Reader, facts: ModelFacts) -> Built | Unpackable:
    if not isinstance(model[0], Transformer):
        return Unpackable(f"its first module is a {type(model[0]).__name__}, no transformer")
    forward = PaddedForward(model)
    normalizes = frozenset((output_of(model),) if forward.normalizes else ())
    return TransformerEngine(forward, reader.texts, normalizes, model.device, facts)


def open_reader(model: BaseModel, facts: ModelFacts) -> Reader:
    """The model's tokenizer and prompts; of the tokenizer a copy, since sentence-transformers changes its own.

    Raises:
        TypeError: it has none that is fast.
    """
    own = model.tokenizer
    tokenizer = getattr(own, "backend_tokenizer", own)
    if not isinstance(tokenizer, Tokenizer):
        raise TypeError(f"its tokenizer is a {type(tokenizer).__name__}, not one of the tokenizers library")
    named, default = {name: text or "" for name, text in model.prompts.items()}, model.default_prompt_name
    pooled = all(module.include_prompt for module in model.modules() if isinstance(module, Pooling))
    texts = Texts(
        Tokenizer.from_str(tokenizer.to_str()),
        facts.max_tokens,
        facts.vocabulary,
        named,
        default_prompt=default,
        unpooled_but=None if pooled else getattr(own, "all_special_ids", ()),
        side="left" if getattr(own, "truncation_side", "right") == "left" else "right",
    )
    return Reader(texts, Prompts(named, default))
