"""How is a request written as a record for Kafka?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from embedmq_schemas import headers as h
from embedmq_schemas.codec import CONTENT_TYPES
from embedmq_schemas.requests import Embed, Request, Score, count_items
from embedmq_schemas.results import Result

from embedmq.publisher import Record
from embedmq.routes import Route

if TYPE_CHECKING:
    from embedmq.tracing import Sending

_KINDS: Final[dict[type[Request], str]] = {Embed: "embed", Score: "score"}


class Records:
    """Gives a request's bytes their key and headers."""

    def __init__(self, client: str) -> None:
        source = f"embedmq/client/{client}".encode()
        self._headers = {
            kind: (
                (h.CONTENT_TYPE, CONTENT_TYPES["msgpack"]),
                (h.CE_SPECVERSION, b"1.0"),
                (h.CE_SOURCE, source),
                (h.CE_TYPE, h.CE_TYPES[name].encode()),
            )
            for kind, name in _KINDS.items()
        }

    def awaited(
        self,
        route: Route,
        request: Request,
        value: bytes,
        future: asyncio.Future[Result],
        sending: Sending | None = None,
    ) -> Record:
        """A record whose answer is waited for; `sending` is its place in a trace."""
        return Record(_key(route, request), value, self._head(request, sending), future, count_items(request))

    def confirmed(
        self,
        route: Route,
        request: Request,
        value: bytes,
        future: asyncio.Future[None],
        sending: Sending | None = None,
    ) -> Record:
        """A record of which only Kafka's acknowledgement is waited for."""
        headers = self._head(request, sending)
        return Record(_key(route, request), value, headers, future, count_items(request), confirm=True)

    def _head(self, request: Request, sending: Sending | None) -> list[tuple[str, bytes | None]]:
        headers: list[tuple[str, bytes | None]] = [*self._headers[type(request)]]
        headers.append((h.CE_ID, (request.id or "").encode()))
        if request.tenant:
            headers.append((h.TENANT, request.tenant.encode()))
        if sending is not None:
            headers += sending.headers()
        return headers


def _key(route: Route, request: Request) -> bytes | None:
    """The model on a shared topic, else the tenant."""
    if route.key is not None:
        return route.key
    return request.tenant.encode() if request.tenant else None
