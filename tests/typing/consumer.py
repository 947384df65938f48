"""How does a program of somebody else's look to its type checkers? Checked against the built wheel, never run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_type

import embedmq
import numpy as np


async def service() -> None:
    async with embedmq.Client(kafka="127.0.0.1:9092", redis="redis://127.0.0.1:6379", max_in_flight_items=64) as mq:
        found = await mq.embed("minilm", ["a cat", "a dog"], dimensions=128, meta={"page": "7"})
        assert_type(found, embedmq.Embeddings)
        assert_type(found.tokens, Sequence[int])
        assert_type(found.item_ids, Sequence[str] | None)
        assert_type(found.meta, Mapping[str, str])
        assert_type(found[0], embedmq.Embedding)
        assert_type([one.truncated for one in found], list[bool])
        norms: list[float] = np.linalg.norm(found.dense, axis=1).tolist()

        tokens = await mq.embed("minilm", [[101, 4937, 102], [101, 3899, 102]], on_error="return")
        assert_type(len(tokens), int)

        ticket = await mq.submit("minilm", "a cat", keep_s=3600)
        assert_type(ticket.id, str)
        assert_type(await mq.result(ticket.id, wait_s=30), embedmq.Embeddings)
        assert_type(await mq.publish("minilm", ["a cat"], reply_topic="vectors"), str)
        assert_type(await mq.models(), list[embedmq.ServedModel])

        own: embedmq.Defaults = {"tenant": "acme", "timeout_s": 5.0, "lane": "bulk"}
        assert_type(embedmq.Client("127.0.0.1:9092", defaults=own), embedmq.Client)
        embedmq.SyncClient("127.0.0.1:9092", defaults={"outputs": ("dense",), "keep_s": 60})
        embedmq.Client("a:1", defaults={"lane": 7})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

        await mq.embed("minilm", 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await mq.embed("minilm", "a cat", lane="fast")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await mq.embed("minilm", "a cat", dimension=8)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    print(norms)


def script() -> float:
    with embedmq.SyncClient.from_env() as mq:
        try:
            scores = mq.score("ranker", "pets", ["a cat", "a car"], top_n=1)
        except embedmq.RequestFailed as error:
            assert_type(error.code, str)
            raise
        except TimeoutError:  # DeadlineExceeded is one
            return 0.0
        assert_type(scores, embedmq.Scores)
        return float(scores.scores[scores.ranking[0]])
