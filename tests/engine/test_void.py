"""What failed looks like nothing that was computed."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from embedmq_schemas.vectors import Dtype
from embedmq_worker.engine.seam import ModelFacts, Options
from embedmq_worker.engine.void import void

FACTS = ModelFacts(dimensions=12, token_dimensions=6, max_tokens=8, outputs=("dense", "sparse", "multivector"))


@pytest.mark.parametrize("dtype", get_args(Dtype))
@pytest.mark.parametrize("dimensions", [None, 3])
def test_it_has_the_shape_of_an_answer_in_every_output(dtype: Dtype, dimensions: int | None) -> None:
    """Rows of NaN, or zeros in integer types; no words, no tokens."""
    found = void(FACTS, Options(FACTS.outputs, dimensions=dimensions, dtype=dtype), 3)
    width, token_width = dimensions or 12, dimensions or 6
    columns = {"ubinary": -(-width // 8)}.get(dtype, width)
    assert found.dense is not None
    assert found.dense.data.shape == (3, columns)
    assert found.dense.data.dtype == ("uint8" if dtype == "ubinary" else dtype)
    assert np.isnan(found.dense.data).all() if dtype.startswith("float") else not found.dense.data.any()
    assert (found.dense.scales is not None) == (dtype == "int8")
    assert found.dense.scales is None or found.dense.scales.tolist() == [0, 0, 0]
    assert found.sparse is not None
    assert [(sparse.indices, sparse.values) for sparse in found.sparse] == [([], [])] * 3
    assert found.multivector is not None
    assert [block.data.shape for block in found.multivector] == [
        (0, {"ubinary": -(-token_width // 8)}.get(dtype, token_width))
    ] * 3
    assert found.scores is None


@pytest.mark.parametrize("output", FACTS.outputs)
def test_what_was_not_asked_for_is_not_there(output: str) -> None:
    """As in every answer."""
    found = void(FACTS, Options((output,)), 1)
    assert [name for name in (*FACTS.outputs, "scores") if getattr(found, name) is not None] == [output]


def test_pairs_that_failed_have_no_score() -> None:
    """NaN, which no ranking takes for a number; a model that scores gives nothing else."""
    found = void(ModelFacts(dimensions=0, max_tokens=8, outputs=(), scores=True), Options(), 2)
    assert found.scores is not None
    assert np.isnan(found.scores).all()
    assert (found.dense, found.sparse, found.multivector, len(found.scores)) == (None, None, None, 2)
