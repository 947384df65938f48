"""Does the worker live, is it ready, and what do its metrics say? Over HTTP, from a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from embedmq_worker.errors import ConfigInvalid

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

STALL_S: Final = 15.0
"""An event loop that has not turned for so long is stuck: heartbeats stop, and Kafka will take the partitions."""

STOP_POLL_S: Final = 1.0
"""How often the server's thread looks whether it should end."""

CLIENT_TIMEOUT_S: Final = 10.0
"""A connection that says nothing for so long is closed."""

MAX_CONNECTIONS: Final = 100
"""As many are served at once, each by a thread; one more is closed at once, and whoever made it asks again."""

log = logging.getLogger(__name__)


class Health:
    """What the probes see. The loop calls `beat`; the server's thread reads."""

    def __init__(self) -> None:
        self._beat_s = time.monotonic()
        self.waiting_for: tuple[str, ...] = ("start",)

    def beat(self) -> None:
        """The loop turns."""
        self._beat_s = time.monotonic()

    def health(self) -> tuple[bool, str]:
        """Whether the loop turned lately."""
        age_s = time.monotonic() - self._beat_s
        return age_s < STALL_S, "ok" if age_s < STALL_S else f"the event loop has not turned for {age_s:.0f} s"

    def ready(self) -> tuple[bool, str]:
        """Whether models are resident and the groups were joined once."""
        alive, said = self.health()
        if alive and not self.waiting_for:
            return True, "ok"
        return False, said if not alive else "waiting for " + ", ".join(self.waiting_for)


class Scrape:
    """Makes the text of `/metrics`, one at a time: those who ask while one is made share the next, so that any number
    of scrapers cost the event loop no more than two do.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.refresh: Callable[[], None] = lambda: None
        self._registry = registry
        self._making = threading.Lock()
        self._made: dict[str, tuple[float, bytes]] = {}

    def read(self, accept: str) -> tuple[str, bytes]:
        """The form that was asked for (OpenMetrics has exemplars) and the text, no older than the question."""
        encode, form = choose_encoder(accept)
        asked_s = time.monotonic()
        with self._making:
            begun_s, text = self._made.get(form, (float("-inf"), b""))
            if begun_s <= asked_s:
                begun_s = time.monotonic()
                self._refresh()
                text = encode(self._registry)
                self._made[form] = begun_s, text
        return form, text

    def _refresh(self) -> None:
        try:
            self.refresh()
        except Exception:  # the counters are right all the same, and nobody else would say so
            log.exception("gauges_not_refreshed")


class Endpoint:
    """Serves `/health`, `/ready` and `/metrics`."""

    def __init__(self, address: str, health: Health, registry: CollectorRegistry) -> None:
        host, _, port = address.rpartition(":")
        self._health = health
        self._scrape = Scrape(registry)
        try:
            self._server = make_server(host, int(port), self._answer, _Server, _Quiet)
        except (OSError, ValueError, OverflowError) as error:
            raise ConfigInvalid(f"worker.http = {address!r}: cannot listen there: {error}") from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_POLL_S,), name="http", daemon=True
        )

    def refresh_by(self, refresh: Callable[[], None]) -> None:
        """What brings the gauges up to date from now on, in a thread of the server's."""
        self._scrape.refresh = refresh

    @property
    def address(self) -> str:
        """Where it listens, with the port that was free."""
        host, port = self._server.server_address[:2]
        return f"{host if isinstance(host, str) else host.decode()}:{port}"

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: WSGIEnvironment, respond: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            form, text = self._scrape.read(environ.get("HTTP_ACCEPT", ""))
            respond("200 OK", [("Content-Type", form)])
            return [text]
        probe = {"/health": self._health.health, "/ready": self._health.ready}.get(path)
        if probe is None:
            respond("404 Not Found", [("Content-Type", "text/plain")])
            return [b"try /health, /ready or /metrics\n"]
        good, said = probe()
        respond("200 OK" if good else "503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
        return [said.encode() + b"\n"]


class _Server(ThreadingMixIn, WSGIServer):
    """One thread per connection, so that one which says nothing holds up no probe."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, *where: Any) -> None:
        super().__init__(*where)
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection in a thread, while there are not too many."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system has no thread left
            self._free.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is none of our business."""


class _Quiet(WSGIRequestHandler):
    """Probes come every second: no log line for each."""

    timeout = CLIENT_TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
