"""Which bytes has every released type had since version 1?

`python -m tests.schemas.golden` writes the files that are missing and never one that exists: what was released decodes
for ever. To add a field: give it to a sample under a *new* name, point `NEWEST` at a new folder, run the command. The
older folders are then only decoded, to the same samples as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from embedmq_schemas import (
    Embed,
    Embedded,
    Failed,
    Failure,
    Limits,
    ModelEntry,
    ModelStatus,
    Score,
    Scored,
    Sparse,
    StreamReply,
    Tensor,
    Timing,
    TopicReply,
    WorkerStatus,
)
from embedmq_schemas.catalogue import LaneLag
from embedmq_schemas.control import Order
from embedmq_schemas.stub import Stub

ALL: Final = Path(__file__).parent / "golden"
NEWEST: Final = ALL / "v3"
HEX_BYTES_A_LINE: Final = 32

_TIMING = Timing(1.5, 0.25, 8.0)
_META = {"page": "7", "title": "Über Katzen 😺"}


def _tensor(dtype: str, rows: object, scales: list[float] | None = None) -> Tensor:
    array = np.array(rows, dtype={"float32": "<f4", "float16": "<f2", "int8": "i1", "ubinary": "u1"}[dtype])
    height, width = array.shape
    return Tensor(dtype, (height, width), memoryview(array.tobytes()), scales)


REQUESTS: Final[Mapping[str, Embed | Score]] = {
    "embed-minimal": Embed(items=["a cat"]),
    "embed-full": Embed(
        id="0f8fad5b-d9cb-469f-a165-70867728950e",
        model="minilm",
        items=["a cat", [101, 4937, 102], "Ein Käfer 🐞"],
        outputs=["dense", "sparse", "multivector"],
        prompt_name="query",
        prompt="query: ",
        dimensions=256,
        dtype="float16",
        normalize=True,
        truncate=False,
        encoding="array",
        reply=TopicReply("vectors", 3, "doc-1"),
        keep_s=3600,
        deadline_unix_ms=1_767_225_600_000,
        tenant="acme",
        job="nightly",
        revision="main",
        meta=_META,
        item_ids=["doc-1", "doc-2", "doc-3"],
    ),
    "embed-stream-reply": Embed(items=["a cat"], reply=StreamReply("7c9e6679-7425-40de-944b-e07fc1f90ae7")),
    "embed-topic-reply": Embed(items=["a cat"], reply=TopicReply("vectors")),
    "score-minimal": Score(query="pets", documents=["a cat", "a car"]),
    "score-full": Score(
        id="0f8fad5b-d9cb-469f-a165-70867728950e",
        model="ranker",
        query="pets",
        documents=["a cat", "a car"],
        top_n=1,
        truncate=True,
        reply=StreamReply("7c9e6679-7425-40de-944b-e07fc1f90ae7"),
        keep_s=0,
        deadline_unix_ms=1_767_225_600_000,
        tenant="acme",
        job="nightly",
        revision="main",
        meta=_META,
        item_ids=["doc-1", "doc-2"],
    ),
}

RESULTS: Final[Mapping[str, Embedded | Scored | Failed]] = {
    "embedded-dense": Embedded(
        id="id-1",
        model="minilm",
        revision="abc123",
        computed_in="float32",
        count=2,
        dense=_tensor("float32", [[0.5, -0.25, 1.0], [0.0, 2.0, -1.5]]),
        tokens=[4, 3],
        truncated=[1],
        meta=_META,
        item_ids=["doc-1", "doc-2"],
        timing=_TIMING,
    ),
    "embedded-rows": Embedded(
        id="id-2", count=2, dense=Tensor("float32", (2, 2), [[0.5, -0.25], [None, None]]), tokens=[4, 0]
    ),
    "embedded-int8": Embedded(id="id-3", count=1, dense=_tensor("int8", [[127, -64]], [0.0078125])),
    "embedded-ubinary": Embedded(id="id-4", count=1, dense=_tensor("ubinary", [[129, 7]])),
    "embedded-sparse": Embedded(id="id-5", count=1, sparse=[Sparse([12, 90], [0.5, 1.25])], tokens=[4]),
    "embedded-multivector": Embedded(
        id="id-6", count=1, multivector=[_tensor("float16", [[0.5, 1.0], [-2.0, 0.25]])], tokens=[2]
    ),
    "embedded-failures": Embedded(
        id="id-7",
        model="minilm",
        count=2,
        dense=_tensor("float32", [[0.5, -0.25], [0.0, 0.0]]),
        failures=[Failure(1, "too_long", "600 tokens exceed 512")],
        tokens=[4, 600],
    ),
    "scored": Scored(
        id="id-8",
        model="ranker",
        revision="abc123",
        computed_in="float32",
        count=2,
        scores=[0.75, None],
        ranking=[0],
        failures=[Failure(1, "processing_failed", "the device failed")],
        tokens=[9, 5],
        truncated=[],
        meta=_META,
        item_ids=["doc-1", "doc-2"],
        timing=_TIMING,
    ),
    "failed": Failed(
        id="id-9",
        model="minilm",
        code="too_large",
        message="4096 items exceed 2048",
        retryable=False,
        attempts=2,
        meta=_META,
        item_ids=["doc-1"],
        fits=2048,
    ),
    "failed-minimal": Failed(id="id-10"),
    "failed-quota": Failed(id="id-11", code="quota_exceeded", retryable=True, retry_after_s=12.5),
}

ENTRY: Final = ("embedded-dense", "scored", "failed")
"""The results in the sample of a reply stream's entry."""

STATUS: Final[Mapping[str, ModelEntry | WorkerStatus | Stub | Order]] = {
    "stub": Stub(submitted_unix_ms=1_767_225_600_000, keep_s=3600, deadline_unix_ms=1_767_225_660_000),
    "model-entry": ModelEntry(
        name="minilm",
        shared=True,
        outputs=["dense"],
        scores=False,
        dimensions=384,
        max_tokens=256,
        revision="abc123",
        limits=Limits(),
    ),
    "worker-status": WorkerStatus(
        id="w-1",
        host="gpu-7",
        started_unix_ms=1_767_225_600_000,
        device="cuda:0",
        models={
            "minilm": ModelStatus(
                state="resident", pinned=True, bytes=90_000_000, wait_s={"interactive": 0.02, "bulk": 3.5}
            )
        },
    ),
    "worker-status-residents": WorkerStatus(
        id="w-2",
        models={
            "splade": ModelStatus(
                state="failing",
                path="packed",
                reason="packed: cosine 1.0000 over 24 probes",
                computed_in="bfloat16",
                idle_s=12.5,
                loads=3,
                evictions=2,
                failures=1,
                error="/models/splade: no such folder",
                thrashing=True,
            )
        },
    ),
    "worker-status-fleet": WorkerStatus(
        id="w-3",
        models={
            "minilm": ModelStatus(
                state="resident",
                served=False,
                entry="minilm-next",
                revision="abc123",
                paused=True,
                lag={"bulk": LaneLag(records=120, tokens=9_600, oldest_s=41.5)},
                items_per_s=88.5,
                tokens_per_s=7_080.0,
                failed_per_s=0.25,
                batch_fill=0.75,
            )
        },
        version="0.1.0",
        partitions={"interactive": 8, "bulk": 8, "retry": 2},
        busy=0.5,
        memory_bytes=90_000_000,
        memory_budget_bytes=8_000_000_000,
        in_flight_items=64,
        in_flight_bytes=65_536,
        max_in_flight_bytes=268_435_456,
        control_offset=7,
        refused={"ranker": "no entry of [models] here"},
    ),
    "order": Order(served=True, pinned=False, entry="minilm-next", by="ops@laptop", issued_unix_ms=1_767_225_600_000),
}


def encode_all() -> dict[str, bytes]:
    """Every sample's bytes, by file name."""
    json, msgpack = msgspec.json.Encoder(), msgspec.msgpack.Encoder()
    files = {f"{name}.json": json.encode(sample) for name, sample in {**REQUESTS, **RESULTS, **STATUS}.items()}
    files |= {f"{name}.msgpack.hex": msgpack.encode(sample) for name, sample in {**REQUESTS, **RESULTS}.items()}
    files["stream-entry.msgpack.hex"] = msgpack.encode([RESULTS[name] for name in ENTRY])
    return files


def read(path: Path) -> bytes:
    """The bytes that were written once."""
    text = path.read_text("utf-8")
    return bytes.fromhex(text) if path.suffix == ".hex" else text.removesuffix("\n").encode()


def write_missing() -> list[str]:
    """Write the samples that have no file yet; returns their names."""
    NEWEST.mkdir(parents=True, exist_ok=True)
    missing = {name: value for name, value in encode_all().items() if not (NEWEST / name).exists()}
    for name, value in missing.items():
        lines = [value[i : i + HEX_BYTES_A_LINE].hex(" ") for i in range(0, len(value), HEX_BYTES_A_LINE)]
        text = "\n".join(lines) if name.endswith(".hex") else value.decode()
        (NEWEST / name).write_text(text + "\n", "utf-8")
    return list(missing)


if __name__ == "__main__":
    for written in write_missing():
        print(written)
