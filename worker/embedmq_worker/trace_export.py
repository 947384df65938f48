"""How do spans leave the worker? OTLP over HTTP, by OpenTelemetry's SDK, from a thread of its own.

Whatever becomes of them, requests do not wait: the queue is bounded, and what does not fit is counted and gone.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from embedmq_schemas.trace_context import TraceContext

from embedmq_worker.config import Tracing
from embedmq_worker.errors import ConfigInvalid
from embedmq_worker.metrics import Metrics
from embedmq_worker.trace import Noted, Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

EXPORT_S: Final = 1.0
"""How long spans wait for company."""
EXPORT_NOTES: Final = 256
"""Requests and batches whose spans travel together, about five each."""
SCHEMA: Final = "https://opentelemetry.io/schemas/1.44.0"
SERVICE: Final = "embedmq-worker"
"""What the spans' service is called, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` say."""

log = logging.getLogger(__name__)


class Exporter:
    """Sends what `put` is given, from any thread; `close` sends the rest."""

    def __init__(self, settings: Tracing, worker_id: str, metrics: Metrics) -> None:
        """Raises ConfigInvalid where the extra is not installed."""
        self._form = Form(settings.endpoint, worker_id)
        self._metrics = metrics
        self._most = settings.max_waiting
        self._flush_s = settings.flush_s
        self._waiting = deque[Noted]()
        self._wake = threading.Event()
        self._closing = False
        self._away = False
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)

    def start(self) -> None:
        """Send from now on."""
        self._thread.start()

    def put(self, noted: Noted) -> None:
        """Leave a request or a batch to be sent; never waits."""
        if len(self._waiting) >= self._most:
            self._metrics.count("spans_dropped_total", len(noted.spans()), "full")
            return
        self._waiting.append(noted)
        if len(self._waiting) == EXPORT_NOTES:
            self._wake.set()

    def close(self) -> None:
        """Send what waits, for `flush_s` at most. Blocks."""
        self._closing = True
        self._wake.set()
        self._thread.join(self._flush_s)
        self._form.close()
        if left := len(self._waiting):
            log.warning("spans_left_behind", extra={"requests_and_batches": left})

    def _run(self) -> None:
        while not (self._closing and not self._waiting):
            self._wake.wait(0 if self._closing else EXPORT_S)
            self._wake.clear()
            while self._waiting:
                noted = [self._waiting.popleft() for _ in range(min(len(self._waiting), EXPORT_NOTES))]
                try:
                    self._send([span for each in noted for span in each.spans()])
                except Exception:  # what is wrong with these need not be with the next, and nobody else would say so
                    log.exception("spans_lost")

    def _send(self, spans: Sequence[Span]) -> None:
        if not spans:
            return
        sent = self._form.send(spans)
        if sent:
            self._metrics.count("spans_exported_total", len(spans))
        else:
            self._metrics.count("spans_dropped_total", len(spans), "refused")
        if sent == self._away:  # it is not as it was
            self._away = not sent
            if sent:
                log.info("spans_taken_again", extra={"endpoint": self._form.endpoint})
            else:
                log.warning("spans_not_taken", extra={"endpoint": self._form.endpoint})


class Form:
    """Our spans as the SDK's exporter takes them. It is imported here, and only where tracing is switched on."""

    def __init__(self, endpoint: str | None, worker_id: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        except ImportError as error:
            message = f"tracing.enabled: {error.name} is not installed: pip install 'embedmq[otel]'"
            raise ConfigInvalid(message) from None
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it would say of each try what we say once
        self._exporter = OTLPSpanExporter(endpoint)
        own = {"service.instance.id": worker_id}
        resource = Resource.create(own)  # with what the environment says
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
        self._resource = resource
        self._scope = InstrumentationScope("embedmq_worker", schema_url=SCHEMA)
        self.endpoint = endpoint or "as OTEL_EXPORTER_OTLP_ENDPOINT says"

    def send(self, spans: Sequence[Span]) -> bool:
        """Whether they were taken; tries for as long as `OTEL_EXPORTER_OTLP_TIMEOUT` says, 10 seconds otherwise."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        return self._exporter.export([self._span(span) for span in spans]) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the exporter has no annotation there

    def _span(self, span: Span) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import Link, SpanKind, Status, StatusCode

        return ReadableSpan(
            name=span.name,
            context=_context(span.own),
            parent=None if span.parent is None else _context(span.parent, remote=span.kind == "consumer"),
            resource=self._resource,
            attributes=span.attributes,
            links=[Link(_context(link)) for link in span.links],
            kind=SpanKind.CONSUMER if span.kind == "consumer" else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


def _context(place: TraceContext, *, remote: bool = False) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState

    state = TraceState.from_header([place.state]) if place.state else None
    return SpanContext(place.trace_id, place.span_id, remote, TraceFlags(place.flags), state)
