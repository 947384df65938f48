"""How long does the leader of a group decide? `python -m benchmarks.decision` prints seconds of CPU, as Markdown."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from embedmq_worker.affinity import Member, decide
from embedmq_worker.standing import Standing, Told

from benchmarks.node import GIB, MEMORY_BYTES, TOKENS_PER_S

Decision = Mapping[str, Mapping[str, Sequence[int]]]

SIZES: Final = ((10, 100), (100, 1_000), (1_000, 1_000), (1_000, 10_000))
"""Workers, and topics of as many models, by Zipf's law."""
PARTITIONS: Final = 8
MODEL_BYTES: Final = 6 * GIB
USE: Final = 0.75


def main() -> None:
    """One row for each size."""
    print("| workers, topics | the first | again, with all that is told | after one has gone |\n|---|---|---|---|")
    for workers, models in SIZES:
        cells = " | ".join(f"{seconds:.2f}" for seconds in measure(workers, models))
        print(f"| {workers:,}, {models:,} | {cells} |")


def measure(workers: int, models: int) -> list[float]:
    """Seconds of CPU of three decisions in a row: from nothing, with what all hold and see, and less one worker."""
    topics = [f"embedmq.m{number}.bulk" for number in range(models)]
    ranks = sum(1 / (number + 1) for number in range(models))
    arriving = {
        topic: USE * workers * TOKENS_PER_S / (number + 1) / ranks / PARTITIONS for number, topic in enumerate(topics)
    }
    told = {f"w{number}": Told(worker=f"w{number}") for number in range(workers)}
    took_s: list[float] = []
    for round in range(1, 4):
        if round == 3:
            del told["w3"]
        members = {name: Member(frozenset(topics), each) for name, each in told.items()}
        start_s = time.process_time()
        found = decide(dict.fromkeys(topics, range(PARTITIONS)), members)
        took_s.append(time.process_time() - start_s)
        told = {name: _tell(name, theirs, arriving, round) for name, theirs in found.items()}
    return took_s


def _tell(name: str, theirs: Mapping[str, Sequence[int]], arriving: Mapping[str, float], round: int) -> Told:
    """What a worker says that has as many of its models in memory as fit."""
    held = [topic.split(".")[1] for topic in theirs]
    standing = Standing(
        tokens_per_s=TOKENS_PER_S,
        memory_bytes=MEMORY_BYTES,
        resident=dict.fromkeys(held[: MEMORY_BYTES // MODEL_BYTES], MODEL_BYTES),
        arriving={topic.split(".")[1]: arriving[topic] * len(numbers) for topic, numbers in theirs.items()},
    )
    return Told(worker=name, standing=standing, owned=theirs, round=round)


if __name__ == "__main__":
    main()
