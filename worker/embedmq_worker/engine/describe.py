"""What can an opened model do, as far as that does not depend on how it is run?"""

from __future__ import annotations

from collections.abc import Sequence

from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.model import BaseModel
from torch import nn

from embedmq_worker.engine.seam import ModelFacts

OUTPUTS = ("dense", "sparse", "multivector")

TOKENS, SENTENCE, SCORES = "token_embeddings", "sentence_embedding", "scores"
"""What modules read and write, by sentence-transformers' names."""

ENDS: tuple[tuple[type[BaseModel], str, str], ...] = (
    (SparseEncoder, "sparse", SENTENCE),
    (MultiVectorEncoder, "multivector", TOKENS),
    (CrossEncoder, "scores", SCORES),
    (SentenceTransformer, "dense", SENTENCE),
)
"""Of each kind of model: which output it has, and where its last module leaves it."""

UNLIMITED = 1_000_000
"""Tokens of a text for a model that says nothing of a limit."""


def describe(models: Sequence[BaseModel], max_tokens: int, revision: str) -> ModelFacts:
    """Facts of models that are computed together; those of how they run are still to come."""
    first, outputs = models[0], {output_of(model) for model in models}
    return ModelFacts(
        dimensions=max((width(model) for model in models if output_of(model) == "dense"), default=0),
        token_dimensions=max((width(model) for model in models if output_of(model) == "multivector"), default=0),
        max_tokens=max_tokens,
        outputs=tuple(output for output in OUTPUTS if output in outputs),
        scores="scores" in outputs,
        prompts=tuple(first.prompts),
        vocabulary=vocabulary(first),
        revision=revision,
    )


def output_of(model: BaseModel) -> str:
    """`dense`, `sparse`, `multivector` or `scores`."""
    return next((output for kind, output, _ in ENDS if isinstance(model, kind)), "dense")


def longest(models: Sequence[BaseModel], wanted: int | None) -> int:
    """Most tokens of one text, special ones included: as configured, as the models say, as they have places for."""
    limits = [wanted or UNLIMITED, UNLIMITED]
    for model in models:
        limits += [limit for limit in (model.max_seq_length, _places(model)) if limit]
    return int(min(limits))


def shorten(models: Sequence[BaseModel], max_tokens: int) -> None:
    """Let sentence-transformers cut texts where we do; a table of words has no limit, and can be given none."""
    for model in models:
        if isinstance(model.max_seq_length, int):
            model.max_seq_length = max_tokens


def width(model: BaseModel) -> int:
    """Numbers of one vector."""
    if isinstance(model, SentenceTransformer | MultiVectorEncoder):
        return int(model.get_embedding_dimension() or 0)
    return 0


def vocabulary(model: BaseModel) -> int:
    """How many token ids the model has vectors for."""
    transformer = model.transformers_model
    parts = model.modules() if transformer is None else [transformer.get_input_embeddings()]
    tables = [part.num_embeddings for part in parts if isinstance(part, nn.Embedding | nn.EmbeddingBag)]
    return max(tables, default=0)


def learned_places(model: nn.Module) -> tuple[int, int | None]:
    """From where learned places are counted, and how many there are; no number where a model counts on.

    RoBERTa and its kin begin behind the padding's place, so they have fewer than their table has rows.
    """
    for part in model.modules():
        if isinstance(table := getattr(part, "position_embeddings", None), nn.Embedding):
            padding = getattr(part, "padding_idx", None)
            offset = padding + 1 if isinstance(padding, int) else 0
            return offset, table.num_embeddings - offset
    return 0, None


def _places(model: BaseModel) -> int | None:
    if (learned := learned_places(model)[1]) is not None:
        return learned
    config = model.config
    places = None if config is None else getattr(config.get_text_config(), "max_position_embeddings", None)
    return places if isinstance(places, int) and places > 0 else None
