"""Many models of many kinds in one worker: their own libraries' answers, in a budget that does not hold all of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import embedmq
import numpy as np
import pytest
import pytest_asyncio
from embedmq_local.stack import Stack
from embedmq_local.worker import Worker
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder

from tests import held
from tests.engine.checkpoints import TEXTS, make
from tests.held import Hold
from tests.worker.world import eventually, until

Start = Callable[..., Worker]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny checkpoints: one of each kind, a fifth that lacks its weights, and one with a prompt."""
    root = tmp_path_factory.mktemp("checkpoints")
    make(root / "dense", "bert")
    make(root / "splade", "bert", "sparse")
    make(root / "late", "modernbert", "multivector")
    make(root / "ranker", "xlm-roberta", "cross")
    make(root / "torn", "bert")
    (root / "torn" / "model.safetensors").write_bytes((root / "dense" / "model.safetensors").read_bytes()[:5_000])
    return root


def table(name: str, checkpoint: object, more: str = "") -> str:
    return f'[models.{name}]\ncheckpoint = "{checkpoint}"\n{more}\n'


@pytest.fixture(scope="module")
def hold(tmp_path_factory: pytest.TempPathFactory) -> Hold:
    """Holds what those workers load that declare how long that takes."""
    return Hold(tmp_path_factory.mktemp("held"))


@pytest.fixture(scope="module")
def start(stack: Stack, hold: Hold, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Workers under a prefix of their own."""
    started: list[Worker] = []

    def run(prefix: str, models: str, settings: str = "") -> Worker:
        config = tmp_path_factory.mktemp("config") / "worker.toml"
        config.write_text(f'prefix = "{prefix}"\n[worker]\n{settings}\n{models}')
        program = held.command(config) if "_ms=" in models else None
        worker = stack.start_worker(config, hold.environment, program)
        started.append(worker)
        worker.wait_ready()
        return worker

    yield run
    for worker in started:
        worker.stop()


@pytest.fixture(scope="module")
def served(start: Start, folder: Path) -> str:
    """The prefix of a worker that serves all kinds; none is pinned, so each is loaded when it is asked for."""
    names = ("dense", "splade", "late", "ranker", "torn")
    exact = 'dtype = "float32"'
    start("kinds", "".join(table(name, folder / name, exact) for name in names) + table("null", "null:8"))
    return "kinds"


@pytest_asyncio.fixture
async def mq(stack: Stack, served: str) -> AsyncIterator[embedmq.Client]:
    async with embedmq.Client(stack.kafka, stack.redis, prefix=served) as client:
        yield client


def command(stack: Stack, prefix: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "embedmq", "--kafka", stack.kafka, "--redis", stack.redis, "--prefix", prefix]
    return subprocess.run([*line, *arguments], capture_output=True, text=True, timeout=110, check=False)


async def test_scores_are_those_of_the_cross_encoder_whoever_asks_beside(mq: embedmq.Client, folder: Path) -> None:
    """Queries of several requests in one batch, with their documents' own order and `top_n`."""
    queries = TEXTS[:4]
    model = CrossEncoder(str(folder / "ranker"), device="cpu")
    found = await asyncio.gather(*(mq.score("ranker", query, TEXTS, top_n=3) for query in queries))
    for query, scores in zip(queries, found, strict=True):
        expected = model.predict([(query, text) for text in TEXTS], show_progress_bar=False)
        np.testing.assert_allclose(scores.scores, expected, atol=1e-3)
        best = np.argsort(-scores.scores, kind="stable")[:3]
        assert list(scores.ranking) == best.tolist()
        assert len(scores.tokens) == len(TEXTS)


def test_score_on_the_command_line(stack: Stack, served: str) -> None:
    """Documents as arguments; best first for people, all of them for programs."""
    done = command(stack, served, "--json", "score", "ranker", TEXTS[3], *TEXTS[:3])
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 3


async def test_a_model_refuses_what_it_is_not_for(mq: embedmq.Client) -> None:
    """Scores of an embedder, vectors of a cross-encoder, an output that a model has not: each says what it has."""
    cases = [
        (mq.score("dense", "q", ["d"]), "choose a cross-encoder"),
        (mq.embed("ranker", "text"), "it scores"),
        (mq.embed("dense", "text", outputs=("sparse",)), "it offers dense"),
        (mq.embed("splade", "text", outputs=("sparse",), dimensions=3), "no width to cut"),
    ]
    for asked, says in cases:
        with pytest.raises(embedmq.RequestFailed, match=says) as failed:
            await asked
        assert failed.value.code == "unsupported"


async def test_sparse_vectors_are_those_of_the_sparse_encoder(mq: embedmq.Client, folder: Path) -> None:
    """Indices ascending, weights above zero."""
    expected = SparseEncoder(str(folder / "splade"), device="cpu").encode(
        TEXTS, convert_to_sparse_tensor=False, show_progress_bar=False
    )
    found = (await mq.embed("splade", TEXTS, outputs=("sparse",))).sparse
    assert found is not None
    for (indices, values), dense in zip(found, np.asarray(expected), strict=True):
        assert (np.diff(indices) > 0).all()
        again = np.zeros_like(dense)
        again[indices] = values
        np.testing.assert_allclose(again, dense, atol=1e-4)


async def test_late_interaction_gives_a_vector_for_each_token_that_counts(mq: embedmq.Client, folder: Path) -> None:
    """As many rows as the encoder keeps, in any dtype."""
    expected = MultiVectorEncoder(str(folder / "late"), device="cpu").encode(
        TEXTS, convert_to_numpy=True, show_progress_bar=False
    )
    found = (await mq.embed("late", TEXTS, outputs=("multivector",))).multivector
    half = (await mq.embed("late", TEXTS, outputs=("multivector",), dtype="float16")).multivector
    assert found is not None
    assert half is not None
    for rows, small, wanted in zip(found, half, expected, strict=True):
        np.testing.assert_allclose(rows, wanted, atol=1e-4)
        np.testing.assert_allclose(small, wanted, atol=1e-2)


async def test_a_checkpoint_that_will_not_load_fails_its_own_requests_only(mq: embedmq.Client) -> None:
    """With the reason, and soon; the worker lives on and serves the others."""
    bad = [asyncio.create_task(mq.embed("torn", "text", timeout_s=90)) for _ in range(3)]
    good = await mq.embed("dense", TEXTS[:2])
    assert good.dense.shape[0] == 2
    for task in bad:
        with pytest.raises(embedmq.RequestFailed, match="torn") as failed:
            await task
        assert (failed.value.code, failed.value.retryable) == ("model_unavailable", True)


async def test_models_says_path_size_last_use_loads_and_failures(mq: embedmq.Client, stack: Stack, served: str) -> None:
    """For people and for programs, with the reason of the path and of the failure."""
    await mq.embed("dense", "text")
    with pytest.raises(embedmq.RequestFailed):
        await mq.embed("torn", "text")

    async def told() -> dict[str, dict[str, object]] | None:
        lines = [json.loads(line) for line in command(stack, served, "--json", "models").stdout.splitlines()]
        found = {line["model"]: next(iter(line["workers"].values())) for line in lines if line["workers"]}
        ready = found.get("dense", {}).get("loads") and found.get("torn", {}).get("failures")
        return found if ready else None

    states = await eventually(told, "the status of both models")
    dense, torn = states["dense"], states["torn"]
    assert (dense["state"], dense["path"], dense["computed_in"]) == ("resident", "packed", "float32")
    assert dense["bytes"]
    assert dense["idle_s"] is not None
    assert dense["reason"]
    assert torn["state"] == "failing"
    assert "torn" in str(torn["error"])
    shown = command(stack, served, "models").stdout
    assert "packed" in shown
    assert str(torn["error"]) in shown


async def embed_each(mq: embedmq.Client, models: Sequence[str], rounds: int) -> None:
    for _ in range(rounds):
        for model in models:
            assert (await mq.embed(model, ["x", "y"], timeout_s=90)).dense.shape == (2, 8)


async def test_more_models_than_the_budget_holds_take_turns(stack: Stack, start: Start) -> None:
    """Every request is answered; the least recently used one goes; a pinned one never does."""
    names = ["a", "b", "c", "d"]
    models = "".join(table(name, "null:8?mib=10&load_ms=20") for name in names)
    worker = start(
        "turns", models + table("kept", "null:8?mib=10", "pinned = true"), "memory_budget_bytes = 33_000_000"
    )
    async with embedmq.Client(stack.kafka, stack.redis, prefix="turns") as mq:
        await embed_each(mq, [*names, "kept"], rounds=2)
        await asyncio.gather(*(embed_each(mq, [name], rounds=3) for name in [*names, "kept"]))
    events = [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
    evicted = {event["model"] for event in events if event["event"] == "model_evicted"}
    assert evicted <= set(names)
    assert len(evicted) >= 2
    loaded = [event["model"] for event in events if event["event"] == "model_loaded"]
    assert loaded.count("kept") == 1
    assert not [event for event in events if event["level"] == "error" and event["logger"].startswith("embedmq")]


async def test_a_model_that_loads_holds_up_no_other(stack: Stack, start: Start, hold: Hold) -> None:
    """Requests for it wait, those for others are answered meanwhile, on their own topics and on the shared ones."""
    slow = table("slow", "null:8?load_ms=1") + table("slowtail", "null:8?load_ms=1", "shared = true")
    start("loading", slow + table("fast", "null:8") + table("fasttail", "null:8", "shared = true"))
    async with embedmq.Client(stack.kafka, stack.redis, prefix="loading") as mq:
        await embed_each(mq, ["fast", "fasttail"], rounds=1)
        with hold.on("load"):
            waiting = [asyncio.create_task(mq.embed(model, "x")) for model in ("slow", "slowtail") for _ in range(50)]
            await embed_each(mq, ["fast", "fasttail"], rounds=10)
            assert not any(task.done() for task in waiting)
        for answer in await asyncio.gather(*waiting):
            assert answer.dense.shape == (1, 8)


async def test_a_stop_lets_what_waits_for_a_model_be_answered(stack: Stack, start: Start, hold: Hold) -> None:
    """SIGTERM drains it, too: the model is loaded, the request computed, the offset committed."""
    worker = start("drain", table("slow", "null:8?load_ms=1"))
    async with embedmq.Client(stack.kafka, stack.redis, prefix="drain") as mq:
        with hold.on("load") as loading:
            asked = asyncio.create_task(mq.embed("slow", "x"))
            await until(loading, "the request waits for its model")
            stopping = asyncio.create_task(asyncio.to_thread(worker.stop))
            await until(lambda: '"stopping"' in worker.log.read_text(), "the worker stops")
        await stopping
        assert (await asked).dense.shape == (1, 8)


def test_pinned_models_that_exceed_the_budget_are_refused_at_start(stack: Stack, tmp_path: Path) -> None:
    """With both figures, and the exit code of a configuration that cannot work."""
    config = tmp_path / "worker.toml"
    models = "".join(table(name, "null:8?mib=10", "pinned = true") for name in ("a", "b"))
    config.write_text(f'prefix = "pins"\n[worker]\nmemory_budget_bytes = 15_000_000\nhttp = "127.0.0.1:0"\n{models}')
    done = command(stack, "pins", "--config", str(config), "worker")
    assert done.returncode == 2
    assert "20971520" in done.stderr
    assert "15000000" in done.stderr


async def test_vectors_do_not_depend_on_the_path(stack: Stack, start: Start, folder: Path) -> None:
    """Packed, padded, or sentence-transformers' own: the same checkpoint gives the same vectors."""
    paths = ("packed", "padded", "sentence-transformers")
    settings = [f'path = "{path}"\ndtype = "float32"' for path in paths]
    start("paths", "".join(table(f"p{n}", folder / "dense", more) for n, more in enumerate(settings)))
    expected = SentenceTransformer(str(folder / "dense"), device="cpu").encode(TEXTS, show_progress_bar=False)
    async with embedmq.Client(stack.kafka, stack.redis, prefix="paths") as mq:
        for n in range(len(paths)):
            np.testing.assert_allclose((await mq.embed(f"p{n}", TEXTS)).dense, expected, atol=1e-4)
