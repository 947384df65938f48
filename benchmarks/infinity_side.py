"""How long does Infinity take for some texts? A program of its own environment, which has nothing of ours.

Reads lines `{"texts": [...], "batch_size": n}`, answers each with `{"seconds": s}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from infinity_emb import AsyncEmbeddingEngine, EngineArgs  # type: ignore[import-not-found]  # see above


async def main(folder: str) -> None:
    """Answer until the input ends; an engine for each batch size, loaded when it is first asked for."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed must not look like an answer
    loop = asyncio.get_running_loop()
    engines: dict[int, AsyncEmbeddingEngine] = {}
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        work = json.loads(line)
        size = work["batch_size"]
        if size not in engines:
            engines[size] = _engine(folder, size)
            await engines[size].astart()
        start_s = time.perf_counter()
        await engines[size].embed(sentences=work["texts"])
        answers.write(json.dumps({"seconds": time.perf_counter() - start_s}) + "\n")
        answers.flush()
    for engine in engines.values():
        await engine.astop()


def _engine(folder: str, batch_size: int) -> AsyncEmbeddingEngine:
    return AsyncEmbeddingEngine.from_args(
        EngineArgs(
            model_name_or_path=folder,
            engine="torch",
            device="cpu",
            dtype="float32",
            batch_size=batch_size,
            bettertransformer=False,  # it is of an older transformers; torch's own attention has taken its place
            model_warmup=False,
            compile=False,
        )
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
