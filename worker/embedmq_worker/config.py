"""What can be set, and within which bounds?"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from embedmq_schemas.connection import KafkaConnection, RedisConnection
from embedmq_schemas.limits import KIB, MIB, Limits
from embedmq_schemas.topics import RETRY_DELAYS_S, RETRY_PARTITIONS
from msgspec import Meta, Struct, field

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class Kafka(KafkaConnection, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the brokers are, and how the worker reads from them."""

    start_timeout_s: Seconds = 30.0
    """How long to look for Kafka at start before giving up, in seconds."""
    session_timeout_ms: Annotated[int, Meta(ge=1_000)] = 45_000
    """Silence after which Kafka gives a worker's partitions to others, in milliseconds."""
    rebalance_timeout_ms: Annotated[int, Meta(ge=1_000)] = 60_000
    """How long a rebalance waits for a member, in milliseconds."""
    heartbeat_interval_ms: Annotated[int, Meta(ge=100)] = 3_000
    """How often a worker tells Kafka it lives, in milliseconds."""
    fetch_max_wait_ms: Annotated[int, Meta(ge=1, le=30_000)] = 500
    """How long Kafka holds an interactive fetch with nothing to give, in ms; new records end the wait at once."""
    bulk_fetch_max_wait_ms: Annotated[int, Meta(ge=1, le=30_000)] = 2_000
    """The same for the bulk lane. Each fetch lists every partition, so this is most of what an idle worker costs."""
    max_partition_fetch_bytes: Annotated[int, Meta(ge=KIB)] = 256 * KIB
    """Most bytes fetched ahead per partition (one batch of records may exceed it)."""
    fetch_max_bytes: Annotated[int, Meta(ge=KIB)] = MIB
    """Most bytes in one fetch from one broker (one batch of records may exceed it). A fetch is copied several times
    while it is taken apart, so this, more than the backlog, is what memory grows by."""
    max_poll_records: Positive = 128
    """Most records decoded before the device and the other lane get their turn."""
    commit_interval_ms: Annotated[int, Meta(ge=0, le=60_000)] = 200
    """Least time between two commits of one lane, in milliseconds; nothing is committed while nothing completes."""
    metadata_max_age_ms: Annotated[int, Meta(ge=1_000)] = 300_000
    """How soon partitions that were added to a topic are read, in milliseconds."""
    partitions: Positive = 8
    """Partitions of the request topics that the worker creates."""
    retry_partitions: Positive = RETRY_PARTITIONS
    """Partitions of each retry topic that the worker creates."""
    replication: Positive = 3
    """Replicas of the topics that the worker creates, at most one per broker."""
    retention_ms: Annotated[int, Meta(ge=60_000)] = 7 * 24 * 3600 * 1000
    """How long the topics that the worker creates keep requests, in milliseconds."""


class Redis(RedisConnection, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where results go, and how long they stay there."""

    start_timeout_s: Seconds = 30.0
    """How long to look for Redis at start before giving up, in seconds."""
    default_keep_s: Positive = 3_600
    """How long the result of a request with neither reply nor `keep_s` is kept, in seconds."""
    stream_ttl_s: Annotated[int, Meta(ge=1, le=30 * 24 * 3600)] = 600
    """How long a reply stream outlives its last entry, in seconds."""
    stream_max_entries: Positive = 100_000
    """Most entries on one reply stream; a guard against clients that died."""
    max_entry_bytes: Annotated[int, Meta(ge=KIB)] = MIB
    """Most bytes of results grouped into one stream entry (one larger result is an entry of its own)."""
    wait_replicas: Annotated[int, Meta(ge=0, le=16)] = 0
    """How many replicas must have a batch of results before its requests count as answered."""
    wait_replicas_ms: Annotated[int, Meta(ge=1, le=60_000)] = 1_000
    """How long to wait for them before the batch is written again, in milliseconds."""


class Cache(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Vectors that Redis keeps, so that the same text is answered without the device when it comes again. The texts are
    not kept. Of the same model, revision, dtype of arithmetic and options only, for all workers of a prefix.
    """

    enabled: bool = False
    """Whether workers look there before the device and write there after it: a round trip for each batch, which pays
    where texts come again and the model is slow. Identical texts in flight are computed once in any case."""
    ttl_s: Annotated[int, Meta(ge=1, le=30 * 24 * 3600)] = 24 * 3600
    """How long a vector is kept after it was computed, in seconds."""
    max_bytes: Annotated[int, Meta(ge=MIB)] = 256 * MIB
    """Most bytes that the cache takes in Redis, keys and overhead included. They are divided into places for
    `max_value_bytes` each, and a new vector takes the place of another: all workers of a prefix should agree."""
    max_value_bytes: Annotated[int, Meta(ge=64, le=MIB // 4)] = 8 * KIB
    """Largest answer to one item that is kept, in bytes. A dense vector in float32 takes four for each dimension and
    less than 64 besides; the nearer to that, the more vectors fit into `max_bytes`."""


class Worker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much one worker takes on, and on which device."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1` or `mps`."""
    memory_budget_bytes: Literal["auto"] | Annotated[int, Meta(ge=MIB)] = "auto"
    """Most bytes of models held at a time: the least recently used ones make room for others. `auto` takes 80 % of the
    device's free memory, half of the machine's on a CPU, shared by `--workers N`."""
    model_wait_s: Seconds = 10.0
    """How long requests may wait for a model that is not loaded before it takes the place of one that has work."""
    idle_evict_s: Seconds | None = None
    """How long an unused model stays loaded, in seconds; left out, only other models' need unloads it."""
    load_attempts: Positive = 4
    """How often loading is tried when disk or network fail, before its requests are answered `model_unavailable`."""
    load_failure_s: Seconds = 60.0
    """How long requests for a model that could not be loaded are answered at once, before it is tried anew."""
    retry_delays_s: Annotated[list[Annotated[int, Meta(ge=1, le=86_400)]], Meta(min_length=1, max_length=4)] = field(
        default_factory=lambda: list(RETRY_DELAYS_S)
    )
    """After which delays a request is tried again that failed for a reason that may pass, in seconds; the last one
    repeats. Each is a topic of its own: all workers of a fleet should agree."""
    max_waiting_for_model: Positive = 64
    """How many requests of one partition of a shared topic wait here for models that are loading; further ones are
    parked in the shortest retry topic, so that those behind them are read."""
    guard_failures: Positive = 32
    """How many requests to a model may fail one after the other (`processing_failed`, `model_unavailable`) before the
    model is paused, instead of its topics being emptied into the dead letters."""
    guard_ratio: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """Which part of the last `guard_window` requests to a model may fail before it is paused."""
    guard_window: Annotated[int, Meta(ge=2, le=10_000)] = 200
    """Over how many requests that part is taken."""
    guard_pause_s: Seconds = 60.0
    """How long a model is paused before one request is tried again, in seconds."""
    blocked_loop_s: Seconds = 5.0
    """How long the event loop may stand still before the log says what holds it up, in seconds."""
    max_batch_ms: Annotated[float, Meta(gt=0, le=60_000)] = 50.0
    """Device time that one batch may take, by the rate measured at load, in milliseconds."""
    max_batch_tokens: Positive = 16_384
    """Most tokens in one batch, whatever the rate."""
    max_batch_items: Positive = 4_096
    """Most items in one batch."""
    max_in_flight_bytes: Annotated[int, Meta(ge=MIB)] = 256 * MIB
    """Most bytes of requests held at a time: as they came, decoded, and what their results will take."""
    max_in_flight_items: Positive = 65_536
    """Most items held at a time."""
    max_in_flight_tokens: Positive = 8_388_608
    """Most tokens held at a time; until they are counted, a token is taken for each character."""
    bulk_share: Annotated[float, Meta(gt=0, le=1)] = 0.75
    """Part of the three bounds above that the bulk lane may fill, so that it never holds up the interactive one."""
    bulk_min_share: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    """Part of the device's tokens that waiting bulk work gets even while interactive work waits, too."""
    tokenizer_threads: Positive = 2
    """Threads that cut texts into tokens."""
    http: str = "127.0.0.1:9464"
    """Where `/health`, `/ready` and `/metrics` are served, `host:port`; port 0 takes a free one."""
    shutdown_grace_s: Seconds = 25.0
    """How long SIGTERM lets what was read be finished, in seconds; the rest is read again by others."""
    reply_topics: list[str] = field(default_factory=lambda: ["*"])
    """Topics that replies may go to, as shell patterns; topics of our own prefix are never among them."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe events that are logged."""


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model that this worker may load: no message can make it load another."""

    checkpoint: str
    """`package:NAME/FOLDER`, a folder, `hf:ORG/NAME@REVISION`, or `null:WIDTH?batch_ms=N&load_ms=N&mib=N` (constant,
    to measure)."""
    served: bool = True
    """Whether its requests are read. Where not, its topics are read, and it is loaded, once `embedmq models load` asks
    for it, and other models may be given its checkpoint."""
    pinned: bool = False
    """Loaded before the worker is ready, and never evicted."""
    shared: bool = False
    """Requests arrive on the shared topics, keyed by model, instead of topics of its own."""
    heads: list[str] = field(default_factory=list[str])
    """Further checkpoints of the same transformer with other heads, computed in the same forward pass: a dense, a
    sparse and a multivector one make a model with three outputs."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What it computes in; `auto` takes the fastest of those that give the same vectors, measured at load."""
    path: Literal["auto", "packed", "padded", "sentence-transformers"] = "auto"
    """Which way batches take through the engine; `auto` takes the fastest that gives the reference's vectors."""
    trust_remote_code: bool = False
    """Lets the checkpoint run its own Python code."""
    max_tokens: Positive | None = None
    """Cuts texts at fewer tokens than the model could take."""


class Tracing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the spans of traced requests go; needs `pip install 'embedmq[otel]'`. A request whose caller's trace is
    sampled is traced, and one whose caller's is not is not.
    """

    enabled: bool = False
    """Whether spans are sent, by OTLP over HTTP. Headers, time limits and certificates are as `OTEL_EXPORTER_OTLP_*`
    say in the environment, the service's name and attributes as `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`."""
    endpoint: str | None = None
    """The whole URL, `http://collector:4318/v1/traces`; left out, what `OTEL_EXPORTER_OTLP_ENDPOINT` says, else the
    collector of this machine."""
    sample_share: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Part of the requests without a trace of their caller's whose trace begins here, chosen by their ids."""
    max_per_s: Positive = 500
    """How many requests a second are traced at most, whatever their callers say; others are answered untraced, and
    counted. A traced one takes about a third of a millisecond of processor time more."""
    max_waiting: Annotated[int, Meta(ge=256, le=1_000_000)] = 8_192
    """How many requests and batches may wait for their spans to be sent; those of further ones are dropped."""
    flush_s: Seconds = 3.0
    """How long a worker that stops waits for its last spans to be taken, in seconds."""


ANYBODY: Final = "*"
"""The entry of `[tenants]` for all that have none of their own."""


class Tenant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much one tenant may have computed by the whole fleet. `[tenants."*"]` is for those with no entry of their
    own, each of which gets so much; without it they are not limited.
    """

    topics: list[str] = field(default_factory=list[str])
    """Topics that are this tenant's, as shell patterns, such as `embedmq.acme-*`: what comes there is charged to it
    whatever it says, and a request that names it anywhere else is refused. Who may write there is for Kafka's ACLs."""
    items_per_s: Annotated[float, Meta(gt=0)] | None = None
    """Items a second; left out, they are not counted."""
    tokens_per_s: Annotated[float, Meta(gt=0)] | None = None
    """Tokens a second; left out, they are not counted."""
    burst_s: Annotated[float, Meta(gt=0, le=86_400)] = 10.0
    """How many seconds' worth of both may be taken at once by a tenant that took nothing before."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")] = "embedmq"
    """First part of the name of every topic, group and Redis key."""
    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    cache: Cache = Cache()
    worker: Worker = Worker()
    limits: Limits = Limits()
    tracing: Tracing = Tracing()
    tenants: dict[str, Tenant] = field(default_factory=dict[str, Tenant])
    models: Annotated[dict[str, Model], Meta(min_length=1)] = field(default_factory=dict[str, Model])
