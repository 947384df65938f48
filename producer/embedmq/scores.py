"""What does the caller of `score` get?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from embedmq_schemas.results import Failed, Failure, Result, Scored, Timing
from numpy.typing import NDArray

from embedmq.errors import RequestFailed
from embedmq.outcome import error_of


class Scores:
    """How well each document answers the query, in the order of the documents."""

    __slots__ = (
        "computed_in",
        "failures",
        "id",
        "item_ids",
        "meta",
        "model",
        "ranking",
        "revision",
        "scores",
        "timing",
        "tokens",
        "truncated",
    )

    def __init__(self, result: Scored) -> None:
        self.scores: NDArray[np.float32] = np.array(
            [np.nan if score is None else score for score in result.scores], np.float32
        )
        """`(n,)`; NaN for a failed document."""
        self.ranking: Sequence[int] = result.ranking
        """Indices of the documents, best first, `top_n` of them."""
        self.id: str = result.id
        self.model: str = result.model
        self.revision: str = result.revision
        self.computed_in: str = result.computed_in
        self.failures: Mapping[int, Failure] = {failure.index: failure for failure in result.failures}
        self.tokens: Sequence[int] = result.tokens
        self.truncated: Sequence[int] = result.truncated
        self.meta: Mapping[str, str] = result.meta or {}
        self.item_ids: Sequence[str] | None = result.item_ids
        self.timing: Timing = result.timing

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        return f"<Scores of {len(self)} by {self.model}>"


def read_scores(result: Result) -> Scores:
    """Read an answer to a request for scores; raises its failure, or RequestFailed for what is none."""
    if isinstance(result, Failed):
        raise error_of(result)
    if not isinstance(result, Scored):
        raise RequestFailed(f"request {result.id}: broken reply: vectors for scores", result.id)
    return Scores(result)
