"""A whole model on the packed way says what sentence-transformers says, in the order it was asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from embedmq_worker.engine.backbone import Backbone, open_backbone
from embedmq_worker.engine.heads import Heads, open_heads
from embedmq_worker.engine.layout import pack
from embedmq_worker.engine.packed import PackedForward
from embedmq_worker.engine.rows import Raw
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Transformer
from torch.nn.functional import normalize

from tests.engine.checkpoints import PACKABLE, TEXTS, make


def opened(model: BaseModel) -> PackedForward:
    """A model on the packed way."""
    transformer, heads = next(iter(model.children())), open_heads(model)
    assert isinstance(transformer, Transformer)
    backbone = open_backbone(transformer)
    assert isinstance(backbone, Backbone)
    assert isinstance(heads, Heads)
    return PackedForward(backbone, [heads])


def run(model: BaseModel, output: str) -> Raw:
    """All texts in one pass."""
    rows = [np.array(row, np.int32) for row in model.tokenizer(TEXTS)["input_ids"]]
    return opened(model)(pack(rows, torch.device("cpu")), frozenset((output,)))


@pytest.mark.parametrize("architecture", PACKABLE)
def test_dense_vectors_are_those_of_encode(architecture: str, tmp_path: Path) -> None:
    """With a `Dense` head, before the model's last `Normalize`."""
    model = SentenceTransformer(str(make(tmp_path, architecture, dense=24)), device="cpu")
    found = run(model, "dense").dense
    assert found is not None
    torch.testing.assert_close(normalize(found), model.encode(TEXTS, convert_to_tensor=True), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("architecture", ["distilbert", "modernbert"])
def test_sparse_vectors_are_those_of_encode(architecture: str, tmp_path: Path) -> None:
    """From the logits of the model's own head."""
    model = SparseEncoder(str(make(tmp_path, architecture, "sparse")), device="cpu")
    found, wanted = run(model, "sparse").sparse, model.encode(TEXTS, convert_to_sparse_tensor=False)
    assert isinstance(wanted, torch.Tensor)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("architecture", ["bert", "qwen3"])
def test_vectors_of_tokens_are_those_of_encode(architecture: str, tmp_path: Path) -> None:
    """A vector for each token, and which of them count."""
    model = MultiVectorEncoder(str(make(tmp_path, architecture, "multivector")), device="cpu")
    raw, wanted = run(model, "multivector"), model.encode(TEXTS)
    assert raw.tokens is not None
    assert raw.kept is not None
    torch.testing.assert_close(normalize(raw.tokens[raw.kept]), torch.cat(list(wanted)), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("architecture", ["roberta", "gemma3_text"])
def test_scores_are_those_of_predict(architecture: str, tmp_path: Path) -> None:
    """Through the model's own head and activation."""
    model = CrossEncoder(str(make(tmp_path, architecture, "cross")), device="cpu")
    pairs = [(TEXTS[4], text) for text in TEXTS]
    rows = [np.array(row, np.int32) for row in model.tokenizer(pairs)["input_ids"]]
    found = opened(model)(pack(rows, torch.device("cpu")), frozenset(("scores",))).scores
    assert found is not None
    np.testing.assert_allclose(found.numpy(), model.predict(pairs), atol=1e-4)


def test_what_a_model_has_not_is_not_there(tmp_path: Path) -> None:
    """A dense model that is asked for words answers with nothing."""
    model = SentenceTransformer(str(make(tmp_path, "bert")), device="cpu")
    assert run(model, "sparse") == Raw()
