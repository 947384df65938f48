"""Which trace does a record belong to? `traceparent` and `tracestate`, as W3C Trace Context has them. Pure."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from embedmq_schemas import headers as h

SAMPLED: Final = 0x01
"""The flag that asks whoever comes next to record its part of the trace."""
STATE_BYTES: Final = 512
"""A longer `tracestate` is left out of spans, as the specification allows; it still travels with the record."""
_PARENT: Final = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
"""https://www.w3.org/TR/trace-context-1/#traceparent-header: lower case only; later versions may add to the end."""


class TraceContext(Struct, frozen=True, gc=False):
    """A place in a trace: the span below which others are put."""

    trace_id: int
    span_id: int
    flags: int = SAMPLED
    state: str = ""

    @property
    def sampled(self) -> bool:
        """Whether this trace is recorded."""
        return bool(self.flags & SAMPLED)


def read(headers: h.Headers) -> TraceContext | None:
    """The context that a record came with; None without one, or with one that is broken."""
    value = h.last(headers, h.TRACEPARENT)
    if value is None:
        return None
    found = _PARENT.fullmatch(value.strip())
    if found is None or (found[1] == b"00" and found[5]):
        return None
    state = h.last(headers, h.TRACESTATE) or b""
    kept = state.decode("ascii", "ignore") if len(state) <= STATE_BYTES else ""
    return TraceContext(int(found[2], 16), int(found[3], 16), int(found[4], 16), kept)


def write(context: TraceContext) -> list[tuple[str, bytes]]:
    """The headers that say it."""
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.flags:02x}"
    headers = [(h.TRACEPARENT, parent.encode())]
    if context.state:
        headers.append((h.TRACESTATE, context.state.encode()))
    return headers
