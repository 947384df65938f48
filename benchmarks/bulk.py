"""What does a bulk job make of the encoder's speed, and does its memory grow with its rows?

`bulk.rows` runs `embedmq reindex` from Parquet to Parquet, with its defaults, against the worker's own engine in a
process of its own, called on the same texts in the same order, in batches of as many tokens, with no files and no queue
(`road`). Its time is the job's, from taking it to the last commit: the other side is loaded before its clock starts,
too.

`bulk.memory` is the most resident memory of that command with many rows against few, with a model that computes
nothing, vectors of a few numbers and short texts, so that rows go through as fast as they can.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import docstrings, road
from benchmarks.cpu import Cpu
from benchmarks.harness import Scale, interleave
from benchmarks.peak import MIB
from benchmarks.place import Place
from benchmarks.reindexing import reindex
from benchmarks.report import Row, Run, row
from benchmarks.side import Side, compare, measure
from benchmarks.work import Calls, Work, grouped, texts

REQUEST_ROWS: Final = 64
"""As many as travel together by default."""
WARM_REQUESTS: Final = 4
NARROW: Final = "narrow"
NARROW_MODELS: Final = f'[models.{NARROW}]\ncheckpoint = "null:8"\npinned = true'


def rows(place: Place, scale: Scale) -> list[Row]:
    """Rows a second of a real model, and texts a second of its engine alone."""
    calls = grouped(docstrings.choose(scale.reindex_rows), REQUEST_ROWS)
    with road.loaded(place) as (prefix, worker, engine):
        limit = road.measured_budget(worker)
        pids = {"worker": worker.pid, "kafka": place.stack.brokers[0].pid, "redis": place.stack.redis_server.pid}
        job = Side("reindex", calls, partial(_job_s, place, prefix), Cpu(pids), place.say)
        alone = Cpu({"encoder": engine.pid})
        direct = Side("engine alone", calls, lambda it: engine(Work(it, limit)), alone, place.say)
        measure([job, direct], scale.reindex_runs, lambda calls: [calls[0][:WARM_REQUESTS]])
    return [compare("bulk.rows", job, direct, road.ENGINE, goal=0.9, unit="rows/s")]


def memory(place: Place, scale: Scale) -> list[Row]:
    """Peak resident memory of the command with many rows, against few."""
    prefix = place.new_prefix()
    with tempfile.TemporaryDirectory() as folder, place.worker(prefix, NARROW_MODELS):
        sources = {
            count: write_jsonl(Path(folder, f"{count}.jsonl"), _made_up(count))
            for count in (scale.many_rows, scale.few_rows)
        }
        peaks = [partial(_peak_mib, place, prefix, source, count) for count, source in sources.items()]
        many, few = interleave(scale.many_rows_runs, peaks)
    runs = [Run(a, b) for a, b in zip(many, few, strict=True)]
    return [row("bulk.memory", "MiB", "lower", runs, f"{scale.few_rows:,} rows, not {scale.many_rows:,}", goal=1.1)]


def _job_s(place: Place, prefix: str, calls: Calls) -> float:
    them = [text for call in calls for text in texts(call)]
    with tempfile.TemporaryDirectory() as folder:
        source = _parquet(Path(folder), them)
        done = reindex(place, prefix, road.MODEL, source, len(them))
    place.say(f"  {done}")
    return done.job_s


def _peak_mib(place: Place, prefix: str, source: Path, count: int) -> float:
    done = reindex(place, prefix, NARROW, source, count)
    place.say(f"  {done}")
    return done.peak_bytes / MIB


def _parquet(folder: Path, them: Sequence[str]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "rows.parquet"
    pq.write_table(pa.table({"id": [f"row-{n}" for n in range(len(them))], "text": them}), path)
    return path


def write_jsonl(path: Path, them: Iterable[str]) -> Path:
    """A source with an id and a text in each line."""
    with path.open("wb") as file:
        file.writelines(msgspec.json.encode({"id": f"row-{n}", "text": text}) + b"\n" for n, text in enumerate(them))
    return path


def _made_up(count: int) -> Iterable[str]:
    return (f"a short text that is like no other: {n}" for n in range(count))
