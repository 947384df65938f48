"""The gate at load: it lets every right way pass on every architecture, and no planted fault on any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from embedmq_schemas.results import Sparse
from embedmq_worker.config import Model
from embedmq_worker.engine import parity
from embedmq_worker.engine.backbone import Backbone, open_backbone
from embedmq_worker.engine.build import build
from embedmq_worker.engine.checkpoint import locate
from embedmq_worker.engine.heads import Heads, open_heads
from embedmq_worker.engine.packed import PackedForward
from embedmq_worker.engine.padding import PaddedForward
from embedmq_worker.engine.rows import Forward, Layout, Raw, Rows
from embedmq_worker.engine.seam import Block, Encoded, Engine
from embedmq_worker.engine.transformer import TransformerEngine
from embedmq_worker.engine.trial import Trial, open_trial
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn

from tests.engine.checkpoints import ARCHITECTURES, PACKABLE, make

Pooled = Literal["cls"]
PADDED = tuple(name for name in ARCHITECTURES if name not in PACKABLE)
WINDOWED = ("modernbert", "gemma3_text")


def opened(folder: Path, architecture: str, pooling: Pooled | None = None) -> Trial:
    checkpoint = locate(str(make(folder, architecture, pooling=pooling)))
    return open_trial(Model(checkpoint=str(folder)), [checkpoint], torch.device("cpu"))


def judged(trial: Trial, engine: object) -> parity.Verdict:
    assert isinstance(engine, TransformerEngine)
    return parity.compare(parity.probing(engine), trial.wanted, parity.FULL)


def engine_of(trial: Trial, forward: Forward, normalizes: frozenset[str] = frozenset(("dense",))) -> Engine:
    return TransformerEngine(forward, trial.texts, normalizes, trial.device, trial.facts)


@dataclass
class Misled:
    """A backbone that is shown another layout than the heads."""

    backbone: Backbone
    alter: Callable[[Layout], Layout]

    def __call__(self, layout: Layout, **wanted: bool) -> Rows:
        return replace(self.backbone(self.alter(layout), **wanted), layout=layout)


@dataclass
class Altered:
    """A whole forward pass that is shown another layout."""

    forward: Forward
    alter: Callable[[Layout], Layout]
    path: str = "packed"

    def __call__(self, layout: Layout, outputs: frozenset[str]) -> Raw:
        return self.forward(self.alter(layout), outputs)


def packed(model: BaseModel, alter: Callable[[Layout], Layout]) -> PackedForward:
    transformer = model[0]
    assert isinstance(transformer, Transformer)
    backbone, heads = open_backbone(transformer), open_heads(model)
    assert isinstance(backbone, Backbone)
    assert isinstance(heads, Heads)
    return PackedForward(Misled(backbone, alter), [heads])  # type: ignore[arg-type]  # it calls it as it calls one


def a_place_too_early(layout: Layout) -> Layout:
    """All but the first token: where places are relative, the same shift of all is none."""
    return replace(layout, positions=(layout.positions - 1).clamp_min(0))


def two_as_one(layout: Layout) -> Layout:
    """The first two sequences see each other."""
    if len(layout.lengths) < 2:
        return layout
    first, second, *others = layout.lengths
    starts = torch.cat([layout.starts[:1], layout.starts[2:]])
    return replace(layout, starts=starts, lengths=(first + second, *others))


def a_row_too_late(layout: Layout) -> Layout:
    return replace(layout, starts=torch.cat([layout.starts[:-1] + 1, layout.starts[-1:]]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_way_of_every_architecture_passes_and_wrong_pooling_does_not(architecture: str, tmp_path: Path) -> None:
    """In float32 they agree with sentence-transformers to the last digits that are shown."""
    trial = opened(tmp_path, architecture)
    ways = ["padded"] if architecture in PADDED else ["packed", "padded"]
    for path in ways:
        verdict = judged(trial, build(path, trial.open("float32"), trial.texts, trial.facts))
        assert verdict.passed
        assert verdict.figure > 0.99999
        (model,) = trial.open("float32")
        for module in model.children():
            if isinstance(module, Pooling):
                module.pooling_mode = "max"
        assert not judged(trial, build(path, [model], trial.texts, trial.facts)).passed


@pytest.mark.parametrize("architecture", PACKABLE)
@pytest.mark.parametrize("fault", [a_place_too_early, two_as_one])
def test_a_position_off_by_one_and_a_leak_between_neighbours_are_found(
    architecture: str, fault: Callable[[Layout], Layout], tmp_path: Path
) -> None:
    """On the packed path of every architecture; the same without the fault passes."""
    trial = opened(tmp_path, architecture)
    (model,) = trial.open("float32")
    assert judged(trial, engine_of(trial, packed(model, lambda layout: layout))).passed
    verdict = judged(trial, engine_of(trial, packed(model, fault)))
    assert not verdict.passed
    assert verdict.order == ("alone" if fault is a_place_too_early else "together")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_row_behind_the_first_token_is_not_taken_for_it(architecture: str, tmp_path: Path) -> None:
    """A model that pools its first token has another vector there."""
    trial = opened(tmp_path, architecture, pooling="cls")
    (model,) = trial.open("float32")
    right: Forward = PaddedForward(model) if architecture in PADDED else packed(model, lambda layout: layout)
    assert judged(trial, engine_of(trial, right)).passed
    assert not judged(trial, engine_of(trial, Altered(right, a_row_too_late))).passed


@pytest.mark.parametrize("architecture", WINDOWED)
@pytest.mark.parametrize("by", [-1, 1])
def test_a_window_off_by_one_is_found(architecture: str, by: int, tmp_path: Path) -> None:
    """One neighbour more or less, on either side."""
    trial = opened(tmp_path, architecture)
    (model,) = trial.open("float32")
    windows = [module for module in model.modules() if isinstance(getattr(module, "sliding_window", None), int)]
    assert windows
    for module in windows:
        setattr(module, "sliding_window", getattr(module, "sliding_window") + by)  # noqa: B009, B010  # it has no type
    assert not judged(trial, build("packed", [model], trial.texts, trial.facts)).passed


@pytest.mark.parametrize("architecture", PADDED)
def test_on_the_padded_path_places_off_by_one_and_padding_that_is_seen_are_found(
    architecture: str, tmp_path: Path
) -> None:
    """Its faults are those of the model's own inputs: a table of places that is shifted, a mask that hides nothing."""
    trial = opened(tmp_path, architecture)
    (shifted,), (unmasked,) = trial.open("float32"), trial.open("float32")
    for name, table in shifted.named_modules():
        if isinstance(table, nn.Embedding) and ("position_embeddings" in name or "rel_embeddings" in name):
            table.weight.data = table.weight.data.roll(1, 0)
    assert not judged(trial, engine_of(trial, PaddedForward(shifted))).passed
    assert unmasked.transformers_model is not None

    forward = unmasked.transformers_model.forward

    @wraps(forward)
    def see_all(*args: Any, attention_mask: torch.Tensor, **kwargs: Any) -> Any:
        return forward(*args, attention_mask=torch.ones_like(attention_mask), **kwargs)

    unmasked.transformers_model.forward = see_all
    verdict = judged(trial, engine_of(trial, PaddedForward(unmasked)))
    assert not verdict.passed
    assert verdict.order != "alone"


def constant(answer: Encoded) -> parity.Compute:
    return lambda numbers: [answer] * len(numbers)


def dense(*values: float) -> Encoded:
    return Encoded(dense=Block(np.array([values], np.float32)))


def test_the_worst_answer_is_the_verdict() -> None:
    """With its probe and its figure."""
    wanted = [dense(1, 0), dense(0, 1), dense(1, 1)]
    found = [dense(1, 0), dense(0.1, 1), dense(1, 1.01)]
    verdict = parity.compare(lambda numbers: [found[i] for i in numbers], wanted, parity.FULL)
    assert (verdict.passed, verdict.probe, verdict.order) == (False, 1, "alone")
    assert verdict.figure == pytest.approx(1.01**-0.5)


def test_an_answer_that_depends_on_its_neighbours_is_found_in_the_order_that_shows_it() -> None:
    """Here only the last of a batch is wrong, and only backwards is that the probe whose vector it changes."""
    wanted = [dense(1, 0), dense(0, 0), dense(0, 0)]

    def compute(order: Sequence[int]) -> list[Encoded]:
        return [dense(0, 1) if i == 0 and i == order[-1] and len(order) > 1 else wanted[i] for i in order]

    verdict = parity.compare(compute, wanted, parity.FULL)
    assert (verdict.passed, verdict.order, verdict.probe) == (False, "backwards", 0)


def test_in_16_bits_too_a_vector_depends_on_no_neighbour() -> None:
    """Rounding may take it further from the reference than from itself in other company."""
    wanted = [dense(1, 0), dense(1, 0)]

    def compute(order: Sequence[int]) -> list[Encoded]:
        return [dense(1, 0.03 if len(order) > 1 else 0.0)] * len(order)

    assert parity.compare(lambda order: [dense(1, 0.03)] * len(order), wanted, parity.HALF).passed
    assert not parity.compare(compute, wanted, parity.HALF).passed


@pytest.mark.parametrize(
    ("found", "alike"),
    [
        (Encoded(), False),
        (Encoded(sparse=[Sparse([1, 5], [1.0, 2.0])]), True),
        (Encoded(sparse=[Sparse([1, 6], [1.0, 2.0])]), False),
        (Encoded(sparse=[Sparse([1, 5], [2.0, 4.0])]), False),
    ],
)
def test_sparse_vectors_are_alike_in_words_and_weights(found: Encoded, alike: bool) -> None:
    """And one that is not there is like none."""
    wanted = [Encoded(sparse=[Sparse([1, 5], [1.0, 2.0])])]
    assert parity.compare(constant(found), wanted, parity.FULL).passed is alike


def test_multivectors_are_alike_in_every_row_and_their_number() -> None:
    """One token's vector that is off is enough."""
    rows = np.eye(4, dtype=np.float32)
    off = rows.copy()
    off[2] = off[1]
    wanted = [Encoded(multivector=[Block(rows)])]
    for found, alike in ((rows, True), (rows[:3], False), (off, False)):
        assert parity.compare(constant(Encoded(multivector=[Block(found)])), wanted, parity.FULL).passed is alike


@pytest.mark.parametrize(
    ("right", "score", "bounds", "alike"),
    [
        (0.5, 0.5009, parity.FULL, True),
        (0.5, 0.5011, parity.FULL, False),
        (8.0, 8.005, parity.FULL, False),
        (0.5, 0.5009, parity.HALF, True),
        (0.5, 0.5011, parity.HALF, False),
        (8.0, 8.005, parity.HALF, True),
        (0.5, float("nan"), parity.HALF, False),
    ],
)
def test_scores_may_be_off_by_a_thousandth(right: float, score: float, bounds: parity.Bounds, alike: bool) -> None:
    """In 16 bits a thousandth of the score itself where that is above one: a large logit has no finer steps."""
    wanted, found = (Encoded(scores=np.array([number], np.float32)) for number in (right, score))
    assert parity.compare(constant(found), [wanted], bounds).passed is alike


def test_numbers_that_are_none_are_found() -> None:
    """They are like nothing, and a reference that has them is no reference."""
    wanted = [dense(1, 0)]
    assert not parity.compare(constant(dense(float("nan"), 0)), wanted, parity.FULL).passed
    assert parity.finite(wanted)
    assert not parity.finite([dense(1, 0), dense(float("nan"), 0)])
    assert not parity.finite([Encoded(scores=np.array([np.inf], np.float32))])


def test_a_vector_of_another_length_is_not_alike() -> None:
    """A cosine alone would not notice a normalisation that was forgotten."""
    one = np.array([3.0, 4.0])
    assert parity.likeness(one, one) == pytest.approx(1)
    assert parity.likeness(one, one * 1.005) == pytest.approx(1)
    assert parity.likeness(one, one / 5) == pytest.approx(0.2)
    assert parity.likeness(one, np.zeros(2)) == 0
    assert parity.likeness(np.zeros(2), np.zeros(2)) == 1


def test_probes_are_of_all_lengths() -> None:
    """From one token to more than the models of the fixtures take, each at most thrice the next shorter one's words."""
    lengths = sorted(len(probe.split()) for probe in parity.PROBES)
    assert lengths[0] == 1
    assert lengths[-1] > 500
    assert all(longer <= max(8, 6 * shorter) for shorter, longer in pairwise(lengths))
