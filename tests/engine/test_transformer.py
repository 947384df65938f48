"""One engine, one forward pass for requests that want different things, and faults that stay with their items."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from embedmq_worker.config import Model
from embedmq_worker.engine.checkpoint import locate
from embedmq_worker.engine.load import load
from embedmq_worker.engine.null import NullEngine
from embedmq_worker.engine.rows import Layout, Raw
from embedmq_worker.engine.seam import Ask, Encoded, Engine, Options, Slice
from embedmq_worker.engine.transformer import TransformerEngine
from embedmq_worker.engine.trial import Trial, open_trial
from embedmq_worker.errors import DeviceLost, OutOfMemory
from sentence_transformers import CrossEncoder, SentenceTransformer

from tests.engine.checkpoints import HIDDEN, LONGEST, TEXTS, make

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("dense"), "bert", prompts={"query": "bada "})


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    engine = load(Model(checkpoint=str(folder), dtype="float32"), "cpu")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def vectors(folder: Path) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """What sentence-transformers itself computes."""
    return SentenceTransformer(str(folder), device="cpu").encode(TEXTS)


def dense(encoded: Encoded) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    assert encoded.dense is not None
    return encoded.dense.data.astype(np.float32)


def test_requests_that_want_different_things_share_a_batch(
    engine: Engine, vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]
) -> None:
    """Each gets its own width, dtype and prompt, in its own order."""
    wishes = [Options(), Options(dimensions=16), Options(dtype="float16"), Options(prompt_name="query")]
    prepared = engine.prepare([Ask(TEXTS[:3], options) for options in wishes])
    batch = [Slice(one, options, 0, 3) for one, options in zip(prepared, wishes, strict=True)]
    plain, short, half, prompted = engine.launch(batch).collect()
    np.testing.assert_allclose(dense(plain), vectors[:3], atol=1e-5)
    cut = vectors[:3, :16] / np.linalg.norm(vectors[:3, :16], axis=1, keepdims=True)
    np.testing.assert_allclose(dense(short), cut, atol=1e-5)
    np.testing.assert_allclose(dense(half), vectors[:3], atol=1e-3)
    assert (np.sum(dense(prompted) * vectors[:3], axis=1) < 0.99).all()


def test_a_request_may_be_computed_in_parts(
    engine: Engine, vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]
) -> None:
    """Slices of one request, in different batches, beside others."""
    (prepared,) = engine.prepare([Ask(TEXTS, Options())])
    first, last = engine.launch([Slice(prepared, Options(), 0, 5), Slice(prepared, Options(), 9, 12)]).collect()
    (middle,) = engine.launch([Slice(prepared, Options(), 5, 9)]).collect()
    np.testing.assert_allclose(np.concatenate([dense(first), dense(middle), dense(last)]), vectors, atol=1e-5)


def test_items_that_failed_are_skipped_and_void(
    engine: Engine, vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]
) -> None:
    """Their neighbours have the vectors that they would have had without them."""
    (prepared,) = engine.prepare([Ask([TEXTS[0], [-1], TEXTS[2], [10**9]], Options())])
    (encoded,) = engine.launch([Slice(prepared, Options(), 0, 4)]).collect()
    np.testing.assert_allclose(dense(encoded)[[0, 2]], vectors[[0, 2]], atol=1e-5)
    assert np.isnan(dense(encoded)[[1, 3]]).all()


def test_a_batch_of_nothing_but_failures_is_answered_without_the_device(engine: Engine) -> None:
    """Every answer is void, in the shape that was asked for."""
    options = Options(dimensions=8, dtype="int8")
    prepared = engine.prepare([Ask([[-1]], Options()), Ask([[-1], []], options)])
    one, two = engine.launch([Slice(prepared[0], Options(), 0, 1), Slice(prepared[1], options, 0, 2)]).collect()
    assert np.isnan(dense(one)).all()
    assert one.dense is not None
    assert two.dense is not None
    assert (one.dense.data.shape, two.dense.data.shape) == ((1, HIDDEN), (2, 8))
    assert not two.dense.data.any()


def test_a_batch_may_be_collected_after_others_were_launched(
    engine: Engine, vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]
) -> None:
    """Two are on the device at a time; results are collected in any order."""
    prepared = engine.prepare([Ask([text], Options()) for text in TEXTS[:3]])
    running = [engine.launch([Slice(one, Options(), 0, 1)]) for one in prepared]
    found = [running[i].collect()[0] for i in (2, 0, 1)]
    np.testing.assert_allclose(np.concatenate(list(map(dense, found))), vectors[[2, 0, 1]], atol=1e-5)


def test_texts_may_be_cut_in_threads_while_batches_are_launched_and_collected_in_others(
    engine: Engine, vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]
) -> None:
    """As a worker does it: one launches, one collects, several tokenize."""
    wishes = [Options(), Options(truncate=False), Options(prompt=""), Options(dtype="float16")] * 6
    with ThreadPoolExecutor(4) as cutters, ThreadPoolExecutor(1) as launcher, ThreadPoolExecutor(1) as collector:
        cut = [cutters.submit(engine.prepare, [Ask(TEXTS, options)]) for options in wishes]
        running = [
            launcher.submit(engine.launch, [Slice(one.result()[0], options, 0, len(TEXTS))])
            for one, options in zip(cut, wishes, strict=True)
        ]
        found = [collector.submit(one.result().collect) for one in running]
        for one in found:
            np.testing.assert_allclose(dense(one.result()[0]), vectors, atol=2e-3)


@pytest.mark.parametrize("path", ["packed", "padded"])
def test_pairs_of_many_queries_are_scored_in_one_batch(path: str, tmp_path: Path) -> None:
    """By the model's own activation, as `predict` scores them."""
    folder = make(tmp_path, "bert", "cross")
    engine = load(Model(checkpoint=str(folder), dtype="float32", path=path), "cpu")  # type: ignore[arg-type]  # one of them
    assert (engine.facts.scores, engine.facts.outputs, engine.facts.path) == (True, (), path)
    asks = [Ask(TEXTS[:4], Options(), TEXTS[4]), Ask(TEXTS[5:8], Options(), TEXTS[3])]
    batch = [Slice(one, Options(), 0, len(one.tokens)) for one in engine.prepare(asks)]
    scores = [answer.scores for answer in engine.launch(batch).collect()]
    model = CrossEncoder(str(folder), device="cpu")
    for ask, found in zip(asks, scores, strict=True):
        wanted = model.predict([(str(ask.query), str(item)) for item in ask.items], show_progress_bar=False)
        np.testing.assert_allclose(found, wanted, atol=1e-5)  # type: ignore[arg-type]  # it is there


class Failing:
    """A model that fails while it holds a tensor."""

    path = "packed"

    def __init__(self, error: Callable[[], Exception]) -> None:
        self.error = error
        self.held: weakref.ref[torch.Tensor] | None = None

    def __call__(self, layout: Layout, outputs: frozenset[str]) -> Raw:
        tensor = torch.zeros(4)
        self.held = weakref.ref(tensor)
        raise self.error()


@pytest.fixture
def trial(folder: Path) -> Trial:
    return open_trial(Model(checkpoint=str(folder)), [locate(str(folder))], CPU)


Fail = Callable[[Callable[[], Exception]], tuple[Failing, Callable[[], object]]]


@pytest.fixture
def fail(trial: Trial) -> Fail:
    def start(error: Callable[[], Exception]) -> tuple[Failing, Callable[[], object]]:
        failing = Failing(error)
        engine = TransformerEngine(failing, trial.texts, frozenset(), CPU, trial.facts)
        (prepared,) = engine.prepare([Ask(["bada"], Options())])
        return failing, lambda: engine.launch([Slice(prepared, Options(), 0, 1)])

    return start


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        MemoryError,
        lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["cuda", "python", "cpu"],
)
def test_too_little_memory_is_named_and_what_was_held_is_let_go(error: Callable[[], Exception], fail: Fail) -> None:
    """Else the next attempt would find as little: a traceback keeps the tensors of its frames."""
    failing, launch = fail(error)
    with pytest.raises(OutOfMemory) as found:
        launch()
    assert failing.held is not None
    assert failing.held() is None
    assert found.value.__context__ is None


def test_any_other_error_of_a_device_is_its_own(fail: Fail) -> None:
    """It is the road that finds the item at fault."""
    _, launch = fail(lambda: RuntimeError("the sizes do not match"))
    with pytest.raises(RuntimeError, match="the sizes do not match"):
        launch()


def test_a_device_that_is_lost_is_named(fail: Fail) -> None:
    """No item is at fault: the road gives up the device, not the requests."""
    _, launch = fail(lambda: RuntimeError("CUDA error: device-side assert triggered"))
    with pytest.raises(DeviceLost, match="device-side assert"):
        launch()


@pytest.mark.parametrize("path", ["packed", "sentence-transformers"])
def test_a_model_on_a_lost_device_can_be_let_go(folder: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that ends because of it ends in good order; only who asks for memory is told."""
    engine = load(Model(checkpoint=str(folder), dtype="float32", path=path), "cpu")  # type: ignore[arg-type]  # one of them

    def lost(device: torch.device) -> None:
        raise RuntimeError(f"CUDA error: unspecified launch failure ({device})")

    for module in ("transformer", "plain"):
        monkeypatch.setattr(f"embedmq_worker.engine.{module}.free_cache", lost)
    with pytest.raises(DeviceLost):
        engine.free_cache()
    engine.close()


def words_of(engine: Engine) -> int:
    """How many tables of words of this shape there are in this process."""
    gc.collect()
    shape = (engine.facts.vocabulary, HIDDEN)
    return sum(type(found) is torch.nn.Parameter and found.shape == shape for found in gc.get_objects())


def test_a_closed_engine_has_let_its_weights_go(folder: Path) -> None:
    """Whoever still holds it holds no model."""
    engine = load(Model(checkpoint=str(folder), dtype="float32"), "cpu")
    before = words_of(engine)
    engine.close()
    assert words_of(engine) < before
    engine.free_cache()


def test_the_facts_say_what_a_model_can_do(engine: Engine) -> None:
    """Measured where that is how one knows."""
    facts = engine.facts
    assert (facts.path, facts.computed_in, facts.outputs, facts.scores) == ("packed", "float32", ("dense",), False)
    assert (facts.dimensions, facts.token_dimensions, facts.max_tokens) == (HIDDEN, 0, LONGEST)
    assert facts.prompts == ("query", "document")
    assert facts.reason.startswith("packed: dense cosine 1.0000 at worst of ")
    assert 1_000 < facts.tokens_per_s < float("inf")
    assert facts.workspace_bytes > 0
    assert facts.bytes > HIDDEN * facts.vocabulary * 4
    assert NullEngine(8).facts.tokens_per_s == float("inf")
