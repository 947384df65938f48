"""Parts of a request, computed apart and in any order, are one answer in the order of its items."""

from __future__ import annotations

import json
from math import nan

import msgspec
import numpy as np
import pytest
from embedmq_schemas.codec import decode_result, encode_result
from embedmq_schemas.requests import Embed, Score
from embedmq_schemas.results import Scored, Sparse
from embedmq_schemas.vectors import to_array
from embedmq_worker.answer import answer, rank
from embedmq_worker.engine.seam import Block, Encoded, Fault, ModelFacts, Options
from embedmq_worker.jobs import Job
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.jobs import make_job

FACTS = ModelFacts(dimensions=2, max_tokens=8, revision="r", computed_in="bfloat16")


def scored(job: Job) -> Scored:
    found = answer(job, FACTS)
    assert isinstance(found, Scored)
    return found


def scores_job(*parts: tuple[int, list[float]], top_n: int | None = None) -> Job:
    count = sum(len(scores) for _, scores in parts)
    job = make_job("a", [3] * count)
    job.request = Score(query="q", documents=["d"] * count, top_n=top_n)
    job.encoded = [(start, Encoded(scores=np.array(scores, np.float32))) for start, scores in parts]
    return job


def test_scores_of_several_batches_are_ranked_together() -> None:
    """In whatever order the batches came back; `top_n` cuts the ranking, not the scores."""
    result = scored(scores_job((2, [0.5, 0.25]), (0, [0.75, 1.0]), top_n=3))
    assert result.scores == [0.75, 1.0, 0.5, 0.25]
    assert result.ranking == [1, 0, 2]
    assert (result.count, result.revision, result.computed_in, result.tokens) == (4, "r", "bfloat16", [3] * 4)


def test_a_document_that_failed_has_no_score_and_no_rank() -> None:
    """Null in every codec, and named."""
    job = scores_job((0, [0.5, nan, 0.75]))
    job.prepared.faults[1] = Fault("too_long", "why")
    result = scored(job)
    assert result.scores == [0.5, None, 0.75]
    assert result.ranking == [2, 0]
    assert [(failure.index, failure.code) for failure in result.failures] == [(1, "too_long")]
    assert json.loads(encode_result(result, "json"))["scores"] == [0.5, None, 0.75]


@given(st.lists(st.one_of(st.none(), st.floats(-10, 10)), max_size=20), st.one_of(st.none(), st.integers(1, 25)))
def test_a_ranking_has_the_best_first_and_equals_in_their_order(scores: list[float | None], top_n: int | None) -> None:
    """Every document with a score is in it once, unless `top_n` leaves it out."""
    ranking = rank(scores, top_n)
    keys = [(-(scores[index] or 0.0), index) for index in ranking]
    assert keys == sorted(keys)
    having = [index for index, score in enumerate(scores) if score is not None]
    assert len(ranking) == min(len(having), top_n or len(having))
    assert set(ranking) <= set(having)
    if ranking and len(ranking) < len(having):
        best_left = max(scores[index] or 0.0 for index in set(having) - set(ranking))
        assert (scores[ranking[-1]] or 0.0) >= best_left


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_all_outputs_of_one_request_come_back_together(codec: str) -> None:
    """Dense, sparse and multivector, from two batches, through the wire; an item may have no vector of a token."""
    job = make_job("a", [2, 1, 3])
    job.options = Options(outputs=("dense", "sparse", "multivector"), dtype="int8")
    block = Block(np.array([[1, -2]], np.int8), np.array([0.5], np.float32))
    job.encoded = [
        (1, _encoded([Block(np.empty((0, 2), np.int8), np.empty(0, np.float32)), block], [[], [7]])),
        (0, _encoded([block], [[4, 9]])),
    ]
    found = decode_result(encode_result(answer(job, FACTS), codec))  # type: ignore[arg-type]  # one of both
    assert found.dense is not None  # type: ignore[union-attr]  # it is Embedded
    assert to_array(found.dense).tolist() == [[0, 0], [1, 1], [1, 1]]  # type: ignore[union-attr]  # it is Embedded
    assert found.dense.scales == [1.0, 2.0, 2.0]  # type: ignore[union-attr]  # it is Embedded
    assert [vector.indices for vector in found.sparse or []] == [[4, 9], [], [7]]  # type: ignore[union-attr]  # it is
    shapes = [tensor.shape for tensor in found.multivector or []]  # type: ignore[union-attr]  # it is Embedded
    assert shapes == [(1, 2), (0, 2), (1, 2)]


def _encoded(multivector: list[Block], indices: list[list[int]]) -> Encoded:
    count = len(multivector)
    return Encoded(
        dense=Block(np.full((count, 2), count - 1, np.int8), np.full(count, count, np.float32)),
        sparse=[Sparse(each, [0.5] * len(each)) for each in indices],
        multivector=multivector,
    )


def test_an_answer_as_rows_has_numbers_in_every_output() -> None:
    """For readers who cannot decode bytes."""
    job = make_job("a", [2])
    job.request = Embed(items=["x"], encoding="array")
    job.options = Options(outputs=("dense", "multivector"))
    rows = np.array([[1.0, 0.5]], np.float32)
    job.encoded = [(0, Encoded(dense=Block(rows), multivector=[Block(np.repeat(rows, 2, axis=0))]))]
    found = msgspec.json.decode(encode_result(answer(job, FACTS), "json"))
    assert found["dense"]["data"] == [[1.0, 0.5]]
    assert found["multivector"][0]["data"] == [[1.0, 0.5]] * 2
