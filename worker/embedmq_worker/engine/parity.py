"""Does a way through the engine give the vectors of the reference: alone, in batches, in any order?

The reference is sentence-transformers itself in float32, one text at a time. In float32 two right ways differ by
rounding alone, so the bounds are tight, and a position or a window that is off by one shows; in 16 bits they leave room
for what rounding costs, most for vectors of single tokens, which no pooling averages.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from embedmq_schemas.results import Sparse
from numpy.typing import NDArray

from embedmq_worker.engine.seam import Ask, Encoded, Engine, Options, Slice

Compute = Callable[[Sequence[int]], list[Encoded]]
"""Encodes the probes of these numbers in one batch; gives an answer of one row for each."""

PROBES: tuple[str, ...] = (
    "a",
    "cat",
    "The cat sat on the mat.",
    "the the the the the the the the the the the the",
    "Wie spät ist es in Zürich? Это уже завтра. 今日は晴れです。",
    "🐈 👩‍👩‍👧 naïve café ﬁne \u200f\u202eשלום",
    "def embed(texts: list[str]) -> None: ...",
    "Payment is due within 30 days; see §4 (2) of the contract, or call +49 30 1234567.",
    "A queue keeps what arrives until somebody is free to do it. " * 2,
    "Sea otters hold hands when they sleep, so that they do not drift apart; storms part them all the same. " * 3,
    "one two three four five six seven eight nine ten " * 8,
    "Rivers carry sand to the sea, and the sea grinds mountains into more of it. " * 10,
    "Long texts reach beyond every window of attention, and beyond the last position of many a model. " * 32,
)
"""One token up to some six hundred: beyond every sliding window, and beyond what the smaller models take."""

QUERIES: tuple[str, ...] = ("Where do otters sleep?", "contract", "What keeps a queue from losing what arrived in it?")
"""What cross-encoders compare the probes with, in turn."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far an answer may be from the reference's."""

    cosine: float
    """Least of a dense or sparse vector."""
    token_cosine: float
    """Least of any token's vector."""
    score: float
    """Most difference of a score, …"""
    score_share: float
    """… or this part of the score, if that is more."""


FULL = Bounds(cosine=0.9999, token_cosine=0.9999, score=1e-3, score_share=0.0)
HALF = Bounds(cosine=0.999, token_cosine=0.99, score=1e-3, score_share=1e-3)
"""bfloat16 keeps eight bits, too few for many a score; float16 keeps eleven."""

COMPANY_COSINE = 0.9999
"""Least of a dense or sparse vector and the same text's in other company, in any dtype: rows do not see each other."""

TOLERATED_LENGTH = 0.99
"""Vectors of like direction are alike while the shorter has this part of the other's length."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figure of a comparison that is nearest to its bound, or farthest beyond it."""

    check: str
    figure: float
    strain: float
    """Part of what its bound allows; more than 1 breaks it."""
    order: str
    """How the batches were made up that it was found in."""
    probe: int
    probes: int

    @property
    def passed(self) -> bool:
        """Whether every bound held."""
        return self.strain <= 1

    def __str__(self) -> str:
        """One clause: the worst figure, and where."""
        if self.passed:
            return f"{self.check} {self.figure:.4f} at worst of {self.probes} probes"
        return f"{self.check} {self.figure:.4f} of probe {self.probe} of {self.probes}, {self.order}"


def queries() -> list[str]:
    """One for each probe."""
    return [QUERIES[i % len(QUERIES)] for i in range(len(PROBES))]


def probing(engine: Engine) -> Compute:
    """Let an engine compute the probes: every output it has, or scores."""
    options = Options(outputs=engine.facts.outputs)
    asks = [
        Ask([text], options, query if engine.facts.scores else None)
        for text, query in zip(PROBES, queries(), strict=True)
    ]
    prepared = engine.prepare(asks)

    def compute(indices: Sequence[int]) -> list[Encoded]:
        return engine.launch([Slice(prepared[i], options, 0, 1) for i in indices]).collect()

    return compute


def finite(answers: Sequence[Encoded]) -> bool:
    """Whether all numbers are: a model with NaN weights gives none that are."""
    return all(bool(np.isfinite(values).all()) for answer in answers for values in _numbers(answer))


def compare(compute: Compute, reference: Sequence[Encoded], bounds: Bounds) -> Verdict:
    """Compute the probes alone, in one batch, backwards, and shuffled in two batches; judge every answer."""
    single = [compute([i])[0] for i in range(len(reference))]
    worst = _judge("alone", single, reference, bounds)
    everyone = list(range(len(reference)))
    mixed = random.Random(0).sample(everyone, len(everyone))
    half = len(mixed) // 2
    orders = {"together": [everyone], "backwards": [everyone[::-1]], "shuffled": [mixed[:half], mixed[half:]]}
    for name, batches in orders.items():
        if not worst.passed:
            break
        answers = {i: answer for batch in batches for i, answer in zip(batch, compute(batch), strict=True)}
        found = [answers[i] for i in everyone]
        against = _judge(f"{name}, against alone", found, single, replace(bounds, cosine=COMPANY_COSINE))
        worst = max(worst, _judge(name, found, reference, bounds), against, key=lambda verdict: verdict.strain)
    return worst


def _judge(name: str, found: Sequence[Encoded], wanted: Sequence[Encoded], bounds: Bounds) -> Verdict:
    verdicts = [
        Verdict(check, figure, strain, name, probe, len(wanted))
        for probe, (one, other) in enumerate(zip(found, wanted, strict=True))
        for check, figure, strain in _checks(one, other, bounds)
    ]
    return max(verdicts, key=lambda verdict: verdict.strain)


def _checks(found: Encoded, wanted: Encoded, bounds: Bounds) -> Iterator[tuple[str, float, float]]:
    """What is compared, its figure, and its strain; what is not there is as unlike as can be."""
    room, token_room = 1 - bounds.cosine, 1 - bounds.token_cosine
    if wanted.dense is not None:
        figure = -1.0 if found.dense is None else likeness(found.dense.data[0], wanted.dense.data[0])
        yield "dense cosine", figure, (1 - figure) / room
    if wanted.sparse is not None:
        figure = -1.0 if found.sparse is None else sparse_likeness(found.sparse[0], wanted.sparse[0])
        yield "sparse cosine", figure, (1 - figure) / room
    if wanted.multivector is not None:
        rows, others = found.multivector[0].data if found.multivector else None, wanted.multivector[0].data
        same = rows is not None and rows.shape == others.shape
        figure = min(map(likeness, rows, others), default=1.0) if rows is not None and same else -1.0
        yield "multivector cosine", figure, (1 - figure) / token_room
    if wanted.scores is not None:
        score = float(wanted.scores[0])
        figure = float("inf") if found.scores is None else abs(float(found.scores[0]) - score)
        figure = figure if math.isfinite(figure) else float("inf")
        yield "score off by", figure, figure / max(bounds.score, bounds.score_share * abs(score))


def likeness(one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    """Cosine of two vectors, less where one is longer: no forgotten normalisation turns a vector. NaN is unlike all."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    shorter, longer = sorted((float(np.linalg.norm(a)), float(np.linalg.norm(b))))
    if not math.isfinite(shorter) or not math.isfinite(longer):
        return -1.0
    if shorter == 0:
        return 1.0 if longer == 0 else 0.0
    cosine = float(a @ b) / (shorter * longer)
    return cosine if shorter >= TOLERATED_LENGTH * longer else cosine * shorter / longer


def sparse_likeness(one: Sparse, other: Sparse) -> float:
    """The same of two sparse vectors."""
    width = max([*one.indices, *other.indices], default=0) + 1
    rows = np.zeros((2, width))
    rows[0, one.indices] = one.values
    rows[1, other.indices] = other.values
    return likeness(rows[0], rows[1])


def _numbers(answer: Encoded) -> Iterator[NDArray[np.generic]]:
    if answer.dense is not None:
        yield answer.dense.data
    for sparse in answer.sparse or []:
        yield np.array(sparse.values, np.float64)
    for block in answer.multivector or []:
        yield block.data
    if answer.scores is not None:
        yield answer.scores
