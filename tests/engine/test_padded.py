"""Models that need padding are computed as sentence-transformers computes them, in groups of like length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from embedmq_worker.engine.layout import pack
from embedmq_worker.engine.padding import PADDING_TOKENS, PaddedForward, group_by_length
from embedmq_worker.engine.rows import Layout, Raw
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.model import BaseModel
from torch.nn.functional import normalize

from tests.engine.checkpoints import TEXTS, make

CPU = torch.device("cpu")
NEEDY = pytest.mark.parametrize("architecture", ["mpnet", "deberta-v2"])


def layout(model: BaseModel, texts: list[str], skips: list[int] | None = None) -> Layout:
    """Texts as one batch."""
    return pack([np.array(row, np.int32) for row in model.tokenizer(texts)["input_ids"]], CPU, skips=skips)


def run(model: BaseModel, output: str, texts: list[str]) -> Raw:
    """One batch through the padded way."""
    return PaddedForward(model)(layout(model, texts), frozenset((output,)))


@NEEDY
@pytest.mark.parametrize("head", [None, 24])
def test_dense_vectors_are_those_of_encode(architecture: str, head: int | None, tmp_path: Path) -> None:
    """Before the model's last `Normalize`, which comes after slicing; with a `Dense` in between as well."""
    model = SentenceTransformer(str(make(tmp_path, architecture, dense=head)), device="cpu")
    found = run(model, "dense", TEXTS).dense
    assert found is not None
    torch.testing.assert_close(normalize(found), model.encode(TEXTS, convert_to_tensor=True), atol=1e-5, rtol=1e-4)
    assert PaddedForward(model).normalizes
    assert (found.norm(dim=1) - 1).abs().max() > 0.1


@NEEDY
def test_sparse_vectors_are_those_of_encode(architecture: str, tmp_path: Path) -> None:
    """The words, their weights, and no more of them than the model allows."""
    model = SparseEncoder(str(make(tmp_path, architecture, "sparse")), device="cpu", max_active_dims=9)
    found = run(model, "sparse", TEXTS).sparse
    wanted = model.encode(TEXTS, convert_to_sparse_tensor=False)
    assert isinstance(wanted, torch.Tensor)
    assert found is not None
    assert (found != 0).sum(1).max() == 9
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@NEEDY
def test_vectors_of_tokens_are_those_of_encode(architecture: str, tmp_path: Path) -> None:
    """Of the tokens that count: those on the skip list are gone, and every text has its own number of them."""
    model = MultiVectorEncoder(str(make(tmp_path, architecture, "multivector")), device="cpu")
    raw, wanted = run(model, "multivector", TEXTS), model.encode(TEXTS)
    assert raw.tokens is not None
    assert raw.kept is not None
    lengths = list(layout(model, TEXTS).lengths)
    assert [int(kept.sum()) for kept in torch.split(raw.kept, lengths)] == [len(rows) for rows in wanted]
    assert not raw.kept.all()
    torch.testing.assert_close(normalize(raw.tokens[raw.kept]), torch.cat(list(wanted)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["mpnet", "deberta-v2", "bert", "qwen3"])
def test_scores_are_those_of_predict(architecture: str, tmp_path: Path) -> None:
    """Through the model's own activation; of types where the tokenizer gives them, of the last token of a decoder."""
    model = CrossEncoder(str(make(tmp_path, architecture, "cross")), device="cpu")
    pairs = [(TEXTS[7], text) for text in TEXTS]
    encoded = model.tokenizer(pairs)
    rows, types = [np.array(row, np.int32) for row in encoded["input_ids"]], encoded.get("token_type_ids")
    firsts = None if types is None else [len(own) - sum(own) for own in types]
    found = PaddedForward(model)(pack(rows, CPU, firsts=firsts), frozenset(("scores",))).scores
    assert found is not None
    np.testing.assert_allclose(found.numpy(), model.predict(pairs), atol=1e-5)


def test_a_prompt_is_left_out_where_the_model_does_not_pool_it(tmp_path: Path) -> None:
    """Rows with prompts of other lengths may meet in one batch."""
    prompts = {"query": "baba bebe bibi", "document": ""}
    model = SentenceTransformer(str(make(tmp_path, "mpnet", prompts=prompts, include_prompt=False)), device="cpu")
    asked = ["".join((prompts["query"], " ", text)) for text in TEXTS[:4]]
    features = model.preprocess(TEXTS[:1], prompt=prompts["query"] + " ")
    skip = int(features["prompt_length"])
    assert skip > 1
    batch = layout(model, [*asked, *TEXTS[4:8]], skips=[skip] * 4 + [0] * 4)
    found = PaddedForward(model)(batch, frozenset(("dense",))).dense
    assert found is not None
    first = model.encode(TEXTS[:4], prompt=prompts["query"] + " ", convert_to_tensor=True)
    wanted = torch.cat([first, model.encode(TEXTS[4:8], convert_to_tensor=True)])
    torch.testing.assert_close(normalize(found), wanted, atol=1e-5, rtol=1e-4)


def test_rows_come_back_in_their_order_whichever_side_is_padded(tmp_path: Path) -> None:
    """Decoders pad on the left; a text's vector is its own all the same."""
    model = SentenceTransformer(str(make(tmp_path, "qwen3")), device="cpu")
    right = run(model, "dense", TEXTS).dense
    model.tokenizer.padding_side = "left"
    left = run(model, "dense", TEXTS).dense
    torch.testing.assert_close(left, right, atol=1e-4, rtol=1e-4)


def test_what_a_model_has_not_is_not_computed(tmp_path: Path) -> None:
    """A dense model that is asked for scores answers with nothing, at no cost."""
    model = SentenceTransformer(str(make(tmp_path, "mpnet")), device="cpu")
    assert run(model, "scores", TEXTS) == Raw()


@given(st.lists(st.integers(1, 600), max_size=200))
def test_groups_of_like_length_have_every_row_once_and_little_padding(lengths: list[int]) -> None:
    """No group is padded by more than a pass costs; the longest row of each comes first."""
    groups = list(group_by_length(lengths))
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        longest = lengths[group[0]]
        assert 0 <= sum(longest - lengths[i] for i in group) <= PADDING_TOKENS
        assert longest == max(lengths[i] for i in group)
