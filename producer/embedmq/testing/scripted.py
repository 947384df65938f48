"""How does a test tell a fake client what is to happen, and see what did?"""

from __future__ import annotations

from collections.abc import Callable

from embedmq_schemas.codes import Code
from embedmq_schemas.requests import Item, Request

from embedmq.errors import EmbedMQError
from embedmq.testing.calls import Call
from embedmq.testing.fleet import FakeFleet, PublishedRequest, Reply


class Scripted:
    """What both fake clients have beside the methods of the real ones; each acts on the client's `fleet`."""

    fleet: FakeFleet

    @property
    def calls(self) -> list[Call]:
        """Every method call, in order: method, model, items and the options that were given."""
        return self.fleet.calls

    @property
    def published(self) -> list[PublishedRequest]:
        """Every request that `submit`, `publish` or `publish_all` left, in order, and its topic."""
        return self.fleet.published

    @property
    def replies(self) -> dict[str, list[Reply]]:
        """By reply topic, what `embedmq.replies` would give."""
        return self.fleet.replies

    @property
    def held(self) -> list[Request]:
        """Requests that wait for `release`, in order."""
        return self.fleet.held

    def fail(
        self,
        model: str | None = None,
        *,
        code: Code = "processing_failed",
        message: str = "the test says so",
        items: Callable[[Item], bool] | None = None,
        error: EmbedMQError | None = None,
        times: int | None = None,
    ) -> None:
        """Let the next `times` requests to `model` (any; all) fail: with a `code`, or only those `items` for which the
        function is true, or by raising `error` instead of sending, as `Unavailable("Kafka is away")` or `Overloaded`.

        Raises:
            ValueError: a code or a model that is none.
        """
        self.fleet.fail(model, code, message, items, error, times)

    def heal(self) -> None:
        """Nothing fails any more."""
        self.fleet.heal()

    def hold(self, model: str | None = None) -> None:
        """Answer no further requests to `model` (to any) until `release`."""
        self.fleet.hold(model)

    def release(self, count: int | None = None) -> None:
        """Answer the first `count` of what is held; without a number all of it, and hold no more."""
        self.fleet.release(count)
