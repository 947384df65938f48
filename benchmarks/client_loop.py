"""How fast is EmbedMQ for a program that keeps some requests under way?"""

from __future__ import annotations

import asyncio
import time
from itertools import count

from embedmq import Client

from benchmarks.sample import Sample


async def drive(client: Client, model: str, texts: list[str], seconds: float, in_flight: int) -> Sample:
    """Keep `in_flight` requests under way for a while, each in a task of its own, as a server would.

    Each text is numbered in place of its first characters: what is the same is computed once.
    """
    await client.embed(model, texts)  # finds the topic
    latencies_s: list[float] = []
    numbers = count()
    start_s = time.perf_counter()
    end_s = start_s + seconds

    async def ask() -> None:
        while (sent_s := time.perf_counter()) < end_s:
            await client.embed(model, [f"{next(numbers):08}{text[8:]}" for text in texts])
            latencies_s.append(time.perf_counter() - sent_s)

    await asyncio.gather(*(ask() for _ in range(in_flight)))
    return Sample(len(latencies_s) * len(texts) / (time.perf_counter() - start_s), latencies_s)
