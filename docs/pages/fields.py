"""What does each field of a line of the log mean? One that several events have is explained once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Type = Literal["string", "integer", "number", "boolean", "strings", "integers"]
"""As JSON has them; the last two are arrays. A number that JSON does not know is null."""


class Field(NamedTuple):
    """The type of a field, and what it says."""

    type: Type
    meaning: str


COMMON: Final[Mapping[str, Field]] = {
    "time": Field("string", "When, in UTC, with milliseconds."),
    "level": Field("string", "`debug`, `info`, `warning`, `error` or `critical`."),
    "event": Field("string", "What happened; a library's warning has its message here."),
    "logger": Field("string", "The module that says so."),
    "worker": Field("string", "The worker's id; each process has one of its own."),
    "traceback": Field("string", "Where something unexpected was caught: of our code and libraries, by line."),
}
"""On every line, but `traceback`."""

FIELDS: Final[Mapping[str, Field]] = {
    "added": Field("strings", "Models that are configured from now on."),
    "age_s": Field("integer", "Age of the oldest request that waits."),
    "attempts": Field("integer", "How often in a row it was started."),
    "away_s": Field("number", "How long nothing was taken."),
    "bytes": Field("integer", "Memory of the model's weights and of its work."),
    "cached": Field("integer", "Items that the content cache had."),
    "coalesced": Field("integer", "Items that were identical to one in flight."),
    "code": Field("string", "The failure's [code](wire.md#codes)."),
    "computed_in": Field("string", "The type that the device computes in."),
    "deaths": Field("integer", "How many processes died with this record first in its partition."),
    "dtype": Field("string", "The type that was tried."),
    "endpoint": Field("string", "Where traces are sent, without what may be secret."),
    "error": Field("string", "Kind and text of the error, as the library tells it."),
    "expected_offset": Field("integer", "The offset that should have come."),
    "figure": Field("number", "How far its vectors are from the reference's."),
    "fill": Field("number", "Tokens of the batch by what it might have held."),
    "forward_ms": Field("number", "Time on the device."),
    "found_offset": Field("integer", "The offset that came."),
    "further": Field("integer", "How many more, which are not told one by one."),
    "gave_up.code": Field("integer", "Exit code of the process; negative is a signal's number."),
    "grace_s": Field("number", "How long it was given to finish."),
    "http": Field("string", "Address of /health, /ready and /metrics."),
    "id": Field("string", "The request's id, as its sender chose it."),
    "in_flight_items": Field("integer", "Items that were read and are not answered."),
    "items": Field("integer", "Items of the batch."),
    "keys": Field("strings", "Settings that count from the next start on."),
    "loads": Field("integer", "How often it was loaded."),
    "missing": Field("strings", "Rights that the worker lacks: resource and operation."),
    "model": Field("string", "The model's configured name."),
    "models": Field("strings", "Names of all models that are configured."),
    "offset": Field("integer", "Where the record lies in its partition."),
    "order": Field("integer", "Offset of the last order that is followed, on the control topic; -1 before the first."),
    "partition": Field("integer", "A partition of the topic."),
    "partitions": Field("integer", "How many partitions."),
    "path": Field("string", "The way through the engine, as `packed`."),
    "pause_s": Field("number", "When one of its requests is tried again."),
    "period_s": Field("number", "In how much time."),
    "pid": Field("integer", "The process."),
    "pids": Field("integers", "The processes."),
    "pinned": Field("strings", "Models that stay in memory from now on."),
    "queue_ms": Field("number", "How long its oldest request waited in this worker."),
    "reader": Field("string", "`interactive`, `bulk` or `retry`: which consumer group."),
    "reason": Field("string", "Why, in a sentence."),
    "records": Field("integer", "How many records."),
    "remedy": Field("string", "What to do."),
    "removed": Field("strings", "Models that are so no more."),
    "repointed": Field("strings", "Models that have another checkpoint from now on."),
    "requests": Field("integer", "How many requests."),
    "requests_and_batches": Field("integer", "Spans of how many requests and batches."),
    "restart_in_s": Field("number", "When it is started again."),
    "revision": Field("string", "Of the checkpoint."),
    "seconds": Field("number", "How long it took."),
    "served": Field("strings", "Models that requests are read for from now on."),
    "stack": Field("strings", "`file:line function`, the innermost last; never a variable's value."),
    "step": Field("string", "`read` or `write`."),
    "to": Field("string", "The topic that takes nothing."),
    "tokens": Field("integer", "Tokens of the batch."),
    "tokens_per_s": Field("number", "The device's rate, as measured when the model was loaded; null without end."),
    "topic": Field("string", "A topic."),
    "tried_again": Field("boolean", "Whether it is tried again by itself."),
    "unpinned": Field("strings", "Models that need not stay in memory any more."),
    "unserved": Field("strings", "Models that none are read for any more."),
    "why": Field("string", "Why it is not followed."),
    "worker_died.code": Field("integer", "Exit code of the process; negative is a signal's number."),
}
"""By name, or by event and name where the same word means something else."""


def field(event: str, name: str) -> Field:
    """Raises LookupError when nobody has said what it means."""
    found = FIELDS.get(f"{event}.{name}") or FIELDS.get(name)
    if found is None:
        raise LookupError(f"the event {event} has a field {name}: say in docs/pages/fields.py what it means")
    return found
