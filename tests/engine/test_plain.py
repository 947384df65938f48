"""The last resort: what only sentence-transformers can run is served by it, behind the same seam."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from embedmq_worker.config import Model
from embedmq_worker.engine.load import load
from embedmq_worker.engine.seam import Ask, Encoded, Engine, Options, Slice
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Module, Normalize, Router
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding

from tests.engine.checkpoints import TEXTS, make

PATH = "sentence-transformers"


def answer(engine: Engine, items: Sequence[str | list[int]], options: Options, query: str | None = None) -> Encoded:
    (prepared,) = engine.prepare([Ask(items, options, query)])
    (encoded,) = engine.launch([Slice(prepared, options, 0, len(items))]).collect()
    return encoded


def rows(encoded: Encoded) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    assert encoded.dense is not None
    return encoded.dense.data.astype(np.float32)


def plain(folder: Path) -> Engine:
    return load(Model(checkpoint=str(folder), dtype="float32", path="sentence-transformers"), "cpu")


def static(folder: Path) -> Path:
    """A table of words, and no transformer."""
    tokenizer = SentenceTransformer(str(make(folder / "donor", "bert")), device="cpu").tokenizer
    torch.manual_seed(0)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=32), Normalize()], device="cpu")
    model.save_pretrained(str(folder / "static"), create_model_card=False)
    return folder / "static"


def test_a_model_without_a_transformer_is_served(tmp_path: Path) -> None:
    """And says why it is not served faster."""
    folder = static(tmp_path)
    engine = load(Model(checkpoint=str(folder), dtype="float32"), "cpu")
    assert (engine.facts.path, engine.facts.dimensions) == (PATH, 32)
    assert "StaticEmbedding, no transformer" in engine.facts.reason
    wanted = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(rows(answer(engine, TEXTS, Options())), wanted, atol=1e-5)


def test_a_model_with_a_route_for_queries_takes_it_for_its_prompt(tmp_path: Path) -> None:
    """Documents pass through the transformer, queries are looked up."""
    whole = SparseEncoder(str(make(tmp_path / "splade", "bert", "sparse")), device="cpu")
    torch.manual_seed(0)
    lookup = SparseStaticEmbedding(whole.tokenizer)
    lookup.weight.data.uniform_(0.5, 1.5)
    chain = [module for module in whole.children() if isinstance(module, Module)]
    router = Router.for_query_document([lookup], chain, default_route="document")
    folder = tmp_path / "router"
    routed = SparseEncoder(modules=[router], device="cpu")
    routed.save_pretrained(str(folder), create_model_card=False)
    engine = load(Model(checkpoint=str(folder), dtype="float32"), "cpu")
    assert (engine.facts.path, engine.facts.outputs) == (PATH, ("sparse",))
    queries = answer(engine, TEXTS[:4], Options(outputs=("sparse",), prompt_name="query")).sparse
    documents = answer(engine, TEXTS[:4], Options(outputs=("sparse",))).sparse
    assert queries is not None
    assert documents is not None
    for found, wanted in ((queries, routed.encode_query(TEXTS[:4])), (documents, routed.encode_document(TEXTS[:4]))):
        for one, row in zip(found, wanted.to_dense().numpy(), strict=True):
            assert one.indices == np.flatnonzero(row).tolist()
            np.testing.assert_allclose(one.values, row[one.indices], rtol=1e-4)


def test_token_ids_are_refused_item_by_item(tmp_path: Path) -> None:
    """Texts beside them have their vectors: sentence-transformers tokenizes on its own."""
    folder = make(tmp_path, "bert")
    engine = plain(folder)
    (prepared,) = engine.prepare([Ask([TEXTS[0], [5, 6, 7], TEXTS[2]], Options())])
    assert {index: fault.code for index, fault in prepared.faults.items()} == {1: "unsupported"}
    (encoded,) = engine.launch([Slice(prepared, Options(), 0, 3)]).collect()
    wanted = SentenceTransformer(str(folder), device="cpu").encode([TEXTS[0], TEXTS[2]])
    np.testing.assert_allclose(rows(encoded)[[0, 2]], wanted, atol=1e-5)
    assert np.isnan(rows(encoded)[1]).all()
    (void,) = engine.launch([Slice(prepared, Options(), 1, 2)]).collect()
    assert np.isnan(rows(void)).all()


def test_prompts_dimensions_and_normalising_are_those_of_the_other_ways(tmp_path: Path) -> None:
    """Whichever way a model takes, the same request gets the same vectors."""
    folder = make(tmp_path, "bert", prompts={"query": "bada "}, include_prompt=False)
    slow, fast = plain(folder), load(Model(checkpoint=str(folder), dtype="float32"), "cpu")
    assert fast.facts.path == "packed"
    wishes = [Options(), Options(prompt_name="query"), Options(prompt="kivo "), Options(dimensions=16)]
    wishes += [Options(normalize=False), Options(dtype="ubinary")]
    for options in wishes:
        np.testing.assert_allclose(
            rows(answer(slow, TEXTS, options)), rows(answer(fast, TEXTS, options)), atol=1e-4, err_msg=str(options)
        )


def test_late_interaction_gives_a_vector_for_each_token_that_counts(tmp_path: Path) -> None:
    """As many as sentence-transformers gives."""
    folder = make(tmp_path, "bert", "multivector")
    found = answer(plain(folder), TEXTS, Options(outputs=("multivector",))).multivector
    assert found is not None
    wanted = MultiVectorEncoder(str(folder), device="cpu").encode(TEXTS, convert_to_numpy=True)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.data.astype(np.float32), other, atol=1e-5)


def test_pairs_are_scored(tmp_path: Path) -> None:
    """By `predict`."""
    folder = make(tmp_path, "bert", "cross")
    scores = answer(plain(folder), TEXTS[:4], Options(), TEXTS[5]).scores
    wanted = CrossEncoder(str(folder), device="cpu").predict([(TEXTS[5], text) for text in TEXTS[:4]])
    assert scores is not None
    np.testing.assert_allclose(scores, wanted, atol=1e-5)


def test_what_another_engine_prepared_is_not_taken(tmp_path: Path) -> None:
    """Its texts are not there."""
    folder = make(tmp_path, "bert")
    (prepared,) = load(Model(checkpoint=str(folder), dtype="float32"), "cpu").prepare([Ask(["bada"], Options())])
    with pytest.raises(TypeError, match="another engine"):
        plain(folder).launch([Slice(prepared, Options(), 0, 1)])


def test_a_closed_engine_computes_nothing(tmp_path: Path) -> None:
    """Its model is gone."""
    engine = plain(make(tmp_path, "bert"))
    (prepared,) = engine.prepare([Ask(["bada"], Options())])
    engine.close()
    engine.free_cache()
    with pytest.raises(RuntimeError, match="closed"):
        engine.launch([Slice(prepared, Options(), 0, 1)])
