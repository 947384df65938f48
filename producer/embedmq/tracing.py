"""Which span does a request have in its caller's trace, and how do workers learn of it?

A request that is sent while a span is active has one of its own, `send <topic>`, until it is answered, or acknowledged
where nobody waits for an answer. Its context travels in the record's `traceparent` and `tracestate`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from embedmq_schemas.headers import Headers
from embedmq_schemas.requests import Request, count_items
from embedmq_schemas.results import Failed, Result
from embedmq_schemas.trace_context import TraceContext, write
from opentelemetry.trace import Span, SpanKind, StatusCode, get_current_span, get_tracer

SCHEMA: Final = "https://opentelemetry.io/schemas/1.44.0"
"""Attributes are as the semantic conventions for messaging have them there (status: development)."""


class Sending:
    """The place of one request in its caller's trace."""

    __slots__ = ("span",)

    def __init__(self, span: Span) -> None:
        self.span = span

    @property
    def sampled(self) -> bool:
        """Whether that trace is recorded."""
        return self.span.get_span_context().trace_flags.sampled

    def headers(self) -> Headers:
        """What its record carries."""
        context = self.span.get_span_context()
        state = context.trace_state.to_header() if context.trace_state else ""
        return write(TraceContext(context.trace_id, context.span_id, int(context.trace_flags), state))

    def lead(self, others: Sequence[Sending]) -> Sending:
        """Which of several requests that share a record gives it its context: a record has one. Where they are
        recorded, it and each of the others link to each other.
        """
        first, *rest = [each for each in (self, *others) if each.sampled] or [self]
        for other in rest:
            other.span.add_link(first.span.get_span_context())
            first.span.add_link(other.span.get_span_context())
        return first


class Tracing:
    """Begins the spans of a client's requests."""

    def __init__(self) -> None:
        self._tracer = get_tracer("embedmq", schema_url=SCHEMA)

    def send(
        self, topic: str, request: Request, future: asyncio.Future[Result] | asyncio.Future[None]
    ) -> Sending | None:
        """The span of a request that ends when `future` does; None while no span is active. One that is not recorded
        hands its context on as it is.
        """
        above = get_current_span()
        context = above.get_span_context()
        if not context.is_valid:
            return None
        if not context.trace_flags.sampled:
            return Sending(above)
        attributes: dict[str, str | int] = {
            "messaging.system": "kafka",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": topic,
            "messaging.message.id": request.id or "",
            "embedmq.model": request.model or "",
            "embedmq.items": count_items(request),
        }
        span = self._tracer.start_span(f"send {topic}", kind=SpanKind.PRODUCER, attributes=attributes)
        if span.is_recording():
            future.add_done_callback(partial(_end, span))
        return Sending(span)


def _end(span: Span, future: asyncio.Future[Result] | asyncio.Future[None]) -> None:
    """End a request's span with what became of it."""
    error = None if future.cancelled() else future.exception()
    result = None if future.cancelled() or error is not None else future.result()
    if future.cancelled():
        fault = "cancelled"
    elif error is not None:
        fault = type(error).__name__
    else:
        fault = result.code if isinstance(result, Failed) else ""
    if fault:
        span.set_status(StatusCode.ERROR, fault)
        span.set_attribute("error.type", fault)
    elif result is not None and not isinstance(result, Failed):
        timing = result.timing
        span.set_attribute("embedmq.queue_ms", timing.queue_ms)
        span.set_attribute("embedmq.tokenize_ms", timing.tokenize_ms)
        span.set_attribute("embedmq.forward_ms", timing.forward_ms)
    span.end()
