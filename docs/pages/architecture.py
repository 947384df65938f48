"""How is the whole put together, and which module answers which question?"""

from __future__ import annotations

from docs.pages.markdown import NOTE, table
from docs.pages.source import PACKAGES, ROOT, module_name, modules, parse, sentence

INTRODUCTION = """\
# Architecture

```text
 embedmq            Kafka                       embedmq_worker                           answers

 publish ──► embedmq.<model>.<lane> ──► decode ──► gather ──► encode ──► deliver ──┬──► Redis stream of the caller
             embedmq.shared.<lane>      records    tokens     device        │      ├──► Redis key, for keep_s
                       ▲                                                    │      ├──► Kafka reply topic
                       └───────────────────────── commit ◄──────────────────┘      └──► embedmq.dead

 where to publish, limits, estimated waits ◄── Redis ◄── catalogue, kept fresh by every worker
```

`decode → gather → encode → deliver → commit` are the five methods of one class, in this order, in
[`road.py`](../worker/embedmq_worker/road.py). Between two of them lies something bounded: `room` bounds what is
decoded and waits, a queue of two batches what is computed and not yet delivered. The device pulls: when it is
free, one pure function, [`choose`](../worker/embedmq_worker/choose.py), picks the next batch from everything
that waits. A request that fails is a value and travels on like a result; the world failing is an exception or a
pause. Stopping is end-of-stream: the source stops, and the rest drains in order. An offset is committed when the
outcomes of all records before it are acknowledged, so a record is read again rather than lost.

What decides is pure: it takes values and a clock and returns values ("Pure." in its sentence below). What touches
Kafka, Redis, HTTP or the device is thin and decides nothing.

Imports go one way, checked by `make check`: `embedmq_schemas` below all; `embedmq` (producers, the command line)
and `embedmq_worker` never meet; `embedmq_local` starts them as processes; only `embedmq_worker.engine` imports
torch. The bytes that travel are in [wire.md](wire.md), the reasons in [decisions](decisions/).

Each module answers one question, which is the first sentence of its docstring:
"""


def page() -> str:
    """docs/architecture.md."""
    return NOTE + INTRODUCTION + "".join(_package(package) for package in PACKAGES)


def _package(package: str) -> str:
    rows = [
        (f"[`{module_name(package, path)}`](../{path.relative_to(ROOT).as_posix()})", sentence(parse(path)))
        for path in modules(package)
    ]
    return f"\n## {package}\n\n" + table(("module", "its question"), rows)
