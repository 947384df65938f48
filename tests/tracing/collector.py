"""A collector of OTLP over HTTP, which decodes the official protobuf messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message

Value = str | bool | int | float | list[str]


@dataclass(frozen=True)
class Seen:
    """One span as a collector sees it."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    kind: int
    attributes: Mapping[str, Value]
    links: tuple[tuple[str, str], ...]
    failed: bool
    service: str

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9

    @property
    def place(self) -> tuple[str, str]:
        """As links name it."""
        return self.trace_id, self.span_id

    def within(self, other: Seen) -> bool:
        return other.start_ns <= self.start_ns <= self.end_ns <= other.end_ns


@dataclass
class Collector:
    """What has come in so far."""

    url: str = ""
    spans: list[Seen] = field(default_factory=list[Seen])
    bodies: list[bytes] = field(default_factory=list[bytes])

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [_seen(span, about["service.name"]) for span in scope.spans]

    def named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]

    def trace(self, trace_id: str) -> dict[str, Seen]:
        """The spans of a trace by the first word of their names."""
        return {span.name.split()[0]: span for span in self.spans if span.trace_id == trace_id}


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """A collector that takes everything."""
    found = Collector()

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            assert self.headers["Content-Type"] == "application/x-protobuf"
            found.take(self.rfile.read(int(self.headers["Content-Length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Taking)
    found.url = f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _seen(span: Message, service: str) -> Seen:
    return Seen(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        kind=span.kind,
        attributes={each.key: _value(each.value) for each in span.attributes},
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        failed=span.status.code == 2,
        service=service,
    )


def _value(value: object) -> Value:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue

    assert isinstance(value, AnyValue)
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [each.string_value for each in value.array_value.values]
    found: Value = getattr(value, kind or "string_value")
    return found
