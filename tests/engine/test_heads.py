"""What the modules behind a transformer make of a batch without padding is what sentence-transformers makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from embedmq_worker.engine.heads import Heads, open_heads
from embedmq_worker.engine.rows import Layout, Raw, Rows, Unpackable
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling, MultiVectorMask
from sentence_transformers.sentence_transformer.modules import CNN, Dropout, LayerNorm, Pooling
from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder, SpladePooling
from torch import Tensor, nn
from torch.nn.functional import normalize

from tests.engine.checkpoints import HIDDEN, SKIPLIST, TEXTS, TOKEN_WIDTH, make

TOKENS = "token_embeddings"
PAIRS = [("bebe ko", text) for text in TEXTS]


@pytest.fixture(scope="module")
def stem(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder that a transformer without a head is in."""
    return str(make(tmp_path_factory.mktemp("stem"), "bert"))


@torch.inference_mode()
def computed(model: BaseModel, texts: Sequence[str] | Sequence[tuple[str, str]]) -> Rows:
    """What the transformer makes of each text alone, end to end."""
    transformer = model[0]
    assert isinstance(transformer, Transformer)
    features = [transformer(transformer.preprocess([text])) for text in texts]
    made = [one[transformer.module_output_name][0] for one in features]
    words = [one["input_ids"][0] for one in features]
    lengths = [len(own) for own in words]
    starts = torch.tensor([0, *lengths]).cumsum(0)
    rows = torch.repeat_interleave(torch.tensor(lengths))
    positions = torch.arange(len(rows)) - starts[rows]
    ids, positions, rows, starts = (number.to(torch.int32) for number in (torch.cat(words), positions, rows, starts))
    values = torch.stack(made) if transformer.module_output_name == "scores" else torch.cat(made)
    return Rows(Layout(ids, positions, rows, starts, tuple(lengths)), hidden=values, logits=values)


def opened(model: BaseModel) -> Heads:
    heads = open_heads(model.eval())
    assert isinstance(heads, Heads)
    return heads


def run(model: BaseModel, texts: Sequence[str] | Sequence[tuple[str, str]] = TEXTS) -> Raw:
    heads = opened(model)
    return heads(computed(model, texts), heads.outputs)


def dense_head(out: int, **more: str) -> Dense:
    torch.manual_seed(out)
    return Dense(HIDDEN, out, **more)  # type: ignore[arg-type]  # names of what it reads and writes


def scaled() -> LayerNorm:
    layer = LayerNorm(HIDDEN)
    nn.init.normal_(layer.norm.weight)
    return layer


CHAINS: dict[str, Callable[[], list[nn.Module]]] = {
    "pooling": lambda: [Pooling(HIDDEN, "cls")],
    "several modes": lambda: [Pooling(HIDDEN, ("mean", "max")), Normalize()],
    "a layer": lambda: [Pooling(HIDDEN), dense_head(24), Normalize()],
    "normalised in between": lambda: [Pooling(HIDDEN), Normalize(), dense_head(24)],
    "layer norm, dropout": lambda: [Pooling(HIDDEN), scaled(), Normalize(), Dropout(0.5)],
    "a layer on tokens": lambda: [
        dense_head(HIDDEN, module_input_name=TOKENS),
        Normalize(module_input_name=TOKENS),
        Pooling(HIDDEN, "weightedmean"),
    ],
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_dense_vectors_are_those_of_encode(stem: str, chain: Callable[[], list[nn.Module]]) -> None:
    """All but the last `Normalize`, which comes after slicing."""
    model = SentenceTransformer(modules=[Transformer(stem), *chain()], device="cpu")
    heads, found = opened(model), run(model).dense
    wanted = model.encode(TEXTS, convert_to_tensor=True)
    assert found is not None
    assert found.dtype == torch.float32
    assert heads.dimensions == found.shape[1] == model.get_embedding_dimension()
    assert (heads.outputs, heads.needs_hidden, heads.needs_logits) == (frozenset(("dense",)), True, False)
    torch.testing.assert_close(normalize(found) if heads.normalizes else found, wanted, atol=2e-6, rtol=1e-4)
    ends = [module for module in model if not isinstance(module, Dropout)]
    assert heads.normalizes == (frozenset(("dense",)) if isinstance(ends[-1], Normalize) else frozenset())


def test_a_head_in_half_precision_computes_in_it_and_its_pooling_in_full(stem: str) -> None:
    """Vectors are float32 again in the end."""
    chain = [Transformer(stem), Pooling(HIDDEN), dense_head(24), Normalize()]
    model = SentenceTransformer(modules=chain, device="cpu").bfloat16()
    found = run(model).dense
    assert found is not None
    assert found.dtype == torch.float32
    wanted = model.encode(TEXTS, convert_to_tensor=True).float()
    assert torch.cosine_similarity(found, wanted).min() > 0.999


@pytest.mark.parametrize("most", [None, 5])
@pytest.mark.parametrize("strategy", ["max", "sum"])
def test_sparse_vectors_are_those_of_encode(tmp_path: Path, strategy: str, most: int | None) -> None:
    """From the logits; no more words than the model allows."""
    path = make(tmp_path, "bert", "sparse")
    chain: list[nn.Module] = [Transformer(str(path), transformer_task="fill-mask")]
    chain += [SpladePooling(strategy)]  # type: ignore[arg-type]  # its names are literals
    model = SparseEncoder(modules=chain, device="cpu", max_active_dims=most)
    heads, found = opened(model), run(model).sparse
    wanted = model.encode(TEXTS, convert_to_sparse_tensor=False)
    assert isinstance(wanted, Tensor)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert (heads.outputs, heads.needs_logits, heads.needs_hidden) == (frozenset(("sparse",)), True, False)


def test_sparse_vectors_of_an_autoencoder_are_those_of_encode(stem: str) -> None:
    """Made of dense ones: from the last layer."""
    torch.manual_seed(1)
    coder = SparseAutoEncoder(HIDDEN, 256, k=8)
    model = SparseEncoder(modules=[Transformer(stem), Pooling(HIDDEN), coder], device="cpu")
    heads, found = opened(model), run(model).sparse
    wanted = model.encode(TEXTS, convert_to_sparse_tensor=False)
    assert isinstance(wanted, Tensor)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert (heads.outputs, heads.needs_hidden) == (frozenset(("sparse",)), True)


def late(stem: str, mask: MultiVectorMask, *more: nn.Module) -> MultiVectorEncoder:
    project = dense_head(TOKEN_WIDTH, module_input_name=TOKENS)
    return MultiVectorEncoder(modules=[Transformer(stem), project, mask, *more], device="cpu")


MASKS: dict[str, Callable[[], MultiVectorMask]] = {
    "every token": MultiVectorMask,
    "a skiplist": lambda: MultiVectorMask(SKIPLIST),
    "a skiplist for queries": lambda: MultiVectorMask(SKIPLIST, skiplist_tasks="query"),
    "words that are none": lambda: MultiVectorMask([*SKIPLIST, "no such word"]),
    "chosen tokens": lambda: MultiVectorMask(SKIPLIST, keep_only_token_ids=list(range(400))),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("last", [True, False], ids=["normalised", ""])
def test_vectors_of_tokens_are_those_of_encode(stem: str, mask: Callable[[], MultiVectorMask], last: bool) -> None:
    """Of the tokens that count for a document."""
    model = late(stem, mask(), *([Normalize(module_input_name=TOKENS)] if last else []))
    heads, raw = opened(model), run(model)
    assert raw.tokens is not None
    rows = raw.tokens if raw.kept is None else raw.tokens[raw.kept]
    wanted = torch.cat(list(model.encode(TEXTS)))
    torch.testing.assert_close(normalize(rows) if heads.normalizes else rows, wanted, atol=1e-5, rtol=1e-4)
    assert (heads.outputs, heads.token_dimensions, heads.dimensions) == (frozenset(("multivector",)), TOKEN_WIDTH, 0)
    assert bool(heads.normalizes) == last


@pytest.mark.parametrize("activation", [None, nn.Identity(), nn.Tanh()])
def test_scores_are_those_of_predict(tmp_path: Path, activation: nn.Module | None) -> None:
    """After the model's own activation."""
    model = CrossEncoder(str(make(tmp_path, "bert", "cross")), device="cpu", activation_fn=activation)
    heads, found = opened(model), run(model, PAIRS).scores
    torch.testing.assert_close(found, model.predict(PAIRS, convert_to_tensor=True), atol=1e-5, rtol=1e-5)
    assert (heads.outputs, heads.needs_logits) == (frozenset(("scores",)), True)


def test_scores_of_a_pooled_cross_encoder_are_those_of_predict(stem: str) -> None:
    """A chain like any other, that ends in a score."""
    chain = [Transformer(stem), Pooling(HIDDEN, "cls"), dense_head(1, module_output_name="scores")]
    model = CrossEncoder(modules=chain, device="cpu")
    found = run(model, PAIRS).scores
    torch.testing.assert_close(found, model.predict(PAIRS, convert_to_tensor=True), atol=1e-5, rtol=1e-5)


def test_what_is_not_asked_for_is_not_computed(stem: str) -> None:
    """A head that has nothing of it says so."""
    model = SentenceTransformer(modules=[Transformer(stem), Pooling(HIDDEN)], device="cpu")
    assert opened(model)(computed(model, TEXTS[:1]), frozenset(("sparse",))) == Raw()


class Own(Dense):
    """A module that nobody here knows."""


def test_what_is_unknown_here_is_refused_by_name(stem: str, tmp_path: Path) -> None:
    """Subclasses, too: they may compute anything. The reason is for operators."""
    own = SentenceTransformer(modules=[Transformer(stem), Pooling(HIDDEN), Own(HIDDEN, 8)], device="cpu")
    assert open_heads(own) == Unpackable("a module Own after the transformer")
    cnn = SentenceTransformer(modules=[Transformer(stem), CNN(HIDDEN, 8), Pooling(24)], device="cpu")
    assert open_heads(cnn) == Unpackable("a module CNN after the transformer")
    merged = late(stem, MultiVectorMask(), HierarchicalTokenPooling())
    assert open_heads(merged) == Unpackable("a module HierarchicalTokenPooling after the transformer")
    headless = SentenceTransformer(modules=[Pooling(HIDDEN)], device="cpu")
    assert isinstance(open_heads(headless), Unpackable)
    labelled = CrossEncoder(str(make(tmp_path, "bert", "cross", labels=3)), device="cpu")
    assert open_heads(labelled) == Unpackable("it gives 3 labels, where a score is one number")
