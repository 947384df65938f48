"""How near is the engine to what the machine can do? Its arithmetic per second against that of bare matrix products."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from embedmq_worker.config import Model
from embedmq_worker.engine.seam import Ask
from msgspec import Struct

from benchmarks import docstrings
from benchmarks.arithmetic import MINILM as SHAPE
from benchmarks.arithmetic import Shape
from benchmarks.checkpoints import MINILM
from benchmarks.child import child
from benchmarks.direct import Direct
from benchmarks.fill import fill
from benchmarks.harness import Scale
from benchmarks.place import Place
from benchmarks.report import Row, Run, row
from benchmarks.work import singly

if TYPE_CHECKING:
    import torch

BASELINE = "torch.addmm of every linear layer, as many tokens"


class Rates(Struct, frozen=True):
    """Floating-point operations a second: of the forward passes, and of the products beside them."""

    ours: float
    products: float


def roofline(place: Place, scale: Scale) -> list[Row]:
    """MiniLM on full batches of mixed lengths, each beside the products of its own shapes."""
    (asks,) = singly(docstrings.choose(scale.texts))
    with child(partial(_start, MINILM, SHAPE)) as measure:
        measure(asks)
        rates = [measure(asks) for _ in range(scale.runs)]
    runs = [Run(each.ours / 1e9, each.products / 1e9) for each in rates]
    for run in runs:
        place.say(f"  ours {run.value:.0f}, products {run.baseline_value:.0f} GFLOP/s")
    return [row("engine.roofline", "GFLOP/s", "higher", runs, BASELINE, goal=0.75)]


def _start(checkpoint: str, shape: Shape) -> Callable[[Sequence[Ask]], Rates]:
    direct = Direct(Model(checkpoint=checkpoint))
    return partial(_rates, direct, shape)


def _rates(direct: Direct, shape: Shape, asks: Sequence[Ask]) -> Rates:
    """Each batch, then products on as many tokens as it has: whatever slows the machine down slows both."""
    engine = direct.engine
    weights = _weights(shape, engine.facts.computed_in)
    flop = linear_flop = 0
    ours_s = products_s = 0.0
    for batch in fill(zip(asks, engine.prepare(asks), strict=True), direct.limit):
        lengths = [tokens for part in batch for tokens in part.prepared.tokens[part.start : part.stop]]
        flop += shape.flop(lengths)
        linear_flop += shape.linear_flop(sum(lengths))
        start_s = time.perf_counter()
        engine.launch(batch).collect()
        between_s = time.perf_counter()
        _multiply(weights, sum(lengths))
        ours_s += between_s - start_s
        products_s += time.perf_counter() - between_s
    return Rates(flop / ours_s, linear_flop / products_s)


def _weights(shape: Shape, dtype: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias of each layer, as many different ones as the model has: none stays in a cache for the next."""
    import torch

    kind = getattr(torch, dtype)
    return [(torch.randn(b, a, dtype=kind) * 0.02, torch.zeros(b, dtype=kind)) for a, b in shape.matrices()]


def _multiply(weights: Sequence[tuple[torch.Tensor, torch.Tensor]], tokens: int) -> None:
    """One product for each layer, of `(tokens, inputs)` and `(inputs, outputs)`."""
    import torch

    widths = {weight.shape[1] for weight, _ in weights}
    rows = {width: torch.ones(tokens, width, dtype=weights[0][0].dtype) for width in widths}
    with torch.inference_mode():
        for weight, bias in weights:
            torch.addmm(bias, rows[weight.shape[1]], weight.t())
