"""Which adapter reads or writes an address?"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import PurePath
from typing import Final, Literal, TypeVar, cast

from embedmq.bulk.errors import BulkError, SinkRefused, SourceRefused
from embedmq.bulk.ports import Sink, Source
from embedmq.bulk.rows import Columns
from embedmq.bulk.status import redact

Side = Literal["source", "sink"]

GROUPS: Final[Mapping[Side, str]] = {"source": "embedmq.sources", "sink": "embedmq.sinks"}
ALIASES: Final[Mapping[str, str]] = {"postgres": "postgresql", "ndjson": "jsonl", "pq": "parquet", "lance": "lancedb"}
COMPRESSED: Final = (".gz",)
EXTRAS: Final[Mapping[str, str]] = {
    "pyarrow": "parquet",
    "psycopg": "postgres",
    "pgvector": "postgres",
    "qdrant_client": "qdrant",
    "lancedb": "lancedb",
}
"""Which extra brings a library."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):")
_T = TypeVar("_T")


def make_source(uri: str, columns: Columns) -> Source:
    """The source for an address; raises SourceRefused for one that nothing reads."""
    return cast("Source", _load("source", uri, SourceRefused)(uri, columns))


def make_sink(uri: str, columns: Columns) -> Sink:
    """The sink for an address; raises SinkRefused for one that nothing writes."""
    return cast("Sink", _load("sink", uri, SinkRefused)(uri, columns))


def kind_of(uri: str) -> str:
    """What an address asks for: its scheme, else the ending of its path; empty where it has neither."""
    scheme = _SCHEME.match(uri)
    if scheme is not None and len(scheme[1]) > 1:  # one letter is a drive
        kind = scheme[1].partition("+")[0]
    else:
        path = PurePath(uri.rstrip("/"))
        kind = (path.with_suffix("") if path.suffix in COMPRESSED else path).suffix.removeprefix(".").lower()
    return ALIASES.get(kind, kind)


def _load(side: Side, uri: str, refused: type[BulkError]) -> Callable[[str, Columns], object]:
    known = {entry.name: entry for entry in entry_points(group=GROUPS[side])}
    entry = known.get(kind_of(uri))
    if entry is None:
        ways = ", ".join(sorted(known))
        raise refused(f"--{side} {redact(uri)}: nothing here works with it; known are, by scheme or ending: {ways}")
    return _import(entry, refused)


def _import(entry: EntryPoint, refused: type[BulkError]) -> Callable[[str, Columns], object]:
    try:
        made: Callable[[str, Columns], object] = entry.load()
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        raise refused(f"{entry.name} needs {library}, which is not installed: {remedy(library)}") from None
    return made


def remedy(library: str) -> str:
    """How to install what an adapter needs."""
    extra = EXTRAS.get(library)
    return f"pip install {library}" if extra is None else f"pip install 'embedmq[{extra}]'"
