"""The client as a Python object: errors, misuse, imports."""

from __future__ import annotations

import asyncio
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor

import embedmq
import pytest
from embedmq import errors
from embedmq_local.stack import Stack

from tests.producer.conftest import NewClient, awaited
from tests.producer.standin import create_topics

HEAVY = ("torch", "transformers", "sentence_transformers", "prometheus_client", "pyarrow", "jgo", "embedmq_worker")


def test_the_error_tree_is_the_one_in_its_docstring() -> None:
    """Every error is drawn there, and nothing else; what other modules add is theirs to draw."""
    drawn = re.findall(r"── (\w+)", errors.__doc__ or "")
    ours = [error for error in embedmq.EmbedMQError.__subclasses__() if error.__module__ == errors.__name__]

    assert drawn == [error.__name__ for error in ours]
    assert all(getattr(embedmq, name).__subclasses__() == [] for name in drawn)
    assert set(drawn) < set(embedmq.__all__)


def test_every_error_says_whether_to_try_again() -> None:
    """`retryable` is on the class."""
    named = {name: getattr(embedmq, name) for name in re.findall(r"── (\w+)", errors.__doc__ or "")}

    assert {name for name, error in named.items() if error.retryable} == {
        "Overloaded",
        "StillPending",
        "DeadlineExceeded",
        "Unavailable",
    }


def test_errors_survive_pickling() -> None:
    """They cross process boundaries whole."""
    failed = embedmq.RequestFailed("message", "i", "too_long", True, 3)
    overloaded = embedmq.Overloaded("message", 2.5)

    again = pickle.loads(pickle.dumps(failed))
    assert (str(again), again.id, again.code, again.retryable, again.attempts) == ("message", "i", "too_long", True, 3)
    assert pickle.loads(pickle.dumps(overloaded)).retry_after_s == 2.5


async def test_a_client_that_was_not_started_says_so() -> None:
    """In both kinds, without a leftover coroutine."""
    with pytest.raises(RuntimeError, match="async with"):
        await embedmq.Client("127.0.0.1:1").embed("minilm", "a")
    with pytest.raises(RuntimeError, match="with client"):
        embedmq.SyncClient("127.0.0.1:1").embed("minilm", "a")


async def test_a_client_that_was_closed_says_so_and_can_be_started_again(new_either: NewClient) -> None:
    """Every method, in both kinds."""
    async with new_either() as mq:
        pass
    for call in (lambda: mq.embed("minilm", "a"), lambda: mq.publish("minilm", "a", keep_s=0), mq.models):
        with pytest.raises(RuntimeError, match="not started: use it inside"):
            await call()
    async with mq if isinstance(mq, embedmq.Client) else awaited(mq.client):
        assert await mq.models() == []


async def test_a_client_that_is_started_cannot_be_started_again(stack: Stack, prefix: str, mq: embedmq.Client) -> None:
    """It goes on as it was."""
    with pytest.raises(RuntimeError, match="started already"):
        await mq.__aenter__()
    with embedmq.SyncClient(stack.kafka, prefix=prefix) as sync, pytest.raises(RuntimeError, match="started already"):
        sync.__enter__()
    assert len(await mq.embed("minilm", "a")) == 1


async def test_a_client_used_in_another_loop_says_so(mq: embedmq.Client) -> None:
    """Instead of hanging there; nor can it be closed there."""

    def elsewhere(use: Callable[[], Awaitable[object]]) -> None:
        async def run() -> None:
            await use()

        asyncio.run(run())

    for use in (lambda: mq.embed("minilm", "a"), mq.models, lambda: mq.__aexit__(None, None, None)):
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(elsewhere, use)


FORKED = {
    "SyncClient": """
with embedmq.SyncClient(kafka, redis) as mq:
    fork(lambda: mq.embed("minilm", "a"))
""",
    "Client, in a loop of the child's": """
async def main():
    async with embedmq.Client(kafka, redis) as mq:
        async def use():
            await mq.embed("minilm", "a")
        await asyncio.to_thread(fork, lambda: asyncio.run(use()))
asyncio.run(main())
""",
    "Client, where the parent was": """
async def main():
    async with embedmq.Client(kafka, redis) as mq:
        def use():
            try:
                mq.embed("minilm", "a").send(None)
            except StopIteration:
                pass
        fork(use)
asyncio.run(main())
""",
}


@pytest.mark.parametrize("kind", FORKED)
def test_a_forked_client_says_so(stack: Stack, kind: str) -> None:
    """Neither kind waits for a thread or a loop that stayed with the parent."""
    program = f"""
import asyncio, embedmq, os
kafka, redis = "{stack.kafka}", "{stack.redis}"
def fork(use):
    child = os.fork()
    if not child:
        try:
            use()
        except RuntimeError as error:
            os._exit(7 if "forked" in str(error) else 8)
        os._exit(9)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
{FORKED[kind]}"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "7"


def test_a_sync_client_serves_many_threads(stack: Stack, prefix: str) -> None:
    """Each thread gets its own answer or error."""
    with embedmq.SyncClient(stack.kafka, stack.redis, prefix=prefix) as mq:

        async def ask() -> list[object]:
            calls = (asyncio.to_thread(mq.result, f"id-{n}") for n in range(8))
            return await asyncio.gather(*calls, return_exceptions=True)

        outcomes = asyncio.run(ask())
    assert [f"id-{n}" in str(outcome) for n, outcome in enumerate(outcomes)] == [True] * 8


def test_closing_a_sync_client_ends_the_calls_of_every_thread(stack: Stack, prefix: str) -> None:
    """Also of those that wait for room while Kafka is away: they are told that the client was closed."""
    process = stack.brokers[0].process
    assert process is not None
    asyncio.run(create_topics(stack.kafka, [f"{prefix}.minilm.bulk"]))
    with ThreadPoolExecutor(5) as threads:
        try:
            with embedmq.SyncClient(stack.kafka, stack.redis, prefix=prefix, max_in_flight_items=2) as mq:
                mq.publish("minilm", "a", keep_s=0)
                process.signal(signal.SIGSTOP)
                calls = [threads.submit(mq.publish, "minilm", "a", keep_s=0) for _ in range(5)]
                session, deadline = mq._client._session, time.monotonic() + 60
                assert session is not None
                while len(session.room._waiting) < 3:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            ended, hanging = futures.wait(calls, timeout=60)
        finally:
            process.signal(signal.SIGCONT)
    assert not hanging
    assert {type(call.exception()) for call in ended} == {embedmq.RequestCancelled}


def test_importing_the_package_imports_no_worker() -> None:
    """What only the extras bring is not needed; what Kafka and Redis need is imported with the client."""
    program = """
import sys
import embedmq
assert not {"aiokafka", "redis", "numpy"} & set(sys.modules), "imported too early"
embedmq.Client, embedmq.SyncClient, embedmq.Embeddings
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & set(HEAVY)


def test_public_names_are_there() -> None:
    """`__all__` and what can be had agree."""
    for name in embedmq.__all__:
        assert getattr(embedmq, name).__name__ == name
    assert set(embedmq.__all__) <= set(dir(embedmq))
    with pytest.raises(AttributeError, match="no attribute"):
        _ = embedmq.nothing
