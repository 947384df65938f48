"""What is a fake fleet told to get wrong? Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from embedmq_schemas.codes import Code
from embedmq_schemas.requests import Embed, Item, Request
from embedmq_schemas.results import Failure
from msgspec import Struct

from embedmq.errors import EmbedMQError


class Fault(Struct):
    """One thing to get wrong, for every request or for the next `left` of those that it concerns."""

    model: str | None
    code: Code
    message: str
    items: Callable[[Item], bool] | None
    """Which items fail, alone; None for the request as a whole."""
    error: EmbedMQError | None
    """What the call raises instead of sending anything."""
    left: int | None

    def concerns(self, request: Request) -> bool:
        """Whether it is still to happen, and to this request."""
        return self.left != 0 and self.model in {None, request.model} and (self.items is None or any(self.hit(request)))

    def hit(self, request: Request) -> Sequence[bool]:
        """Which items it makes fail."""
        items: Sequence[Item] = request.items if isinstance(request, Embed) else request.documents
        return [self.items is not None and self.items(item) for item in items]

    def use(self) -> None:
        """It happens."""
        if self.left is not None:
            self.left -= 1


def failures(faults: Sequence[Fault], request: Request) -> dict[int, Failure]:
    """The items that fail; of several faults the first counts."""
    found: dict[int, Failure] = {}
    for fault in faults:
        found = {i: Failure(i, fault.code, fault.message) for i, hit in enumerate(fault.hit(request)) if hit} | found
    return found
