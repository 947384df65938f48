"""How does a client take items in while vectors, or acknowledgements, come out?"""

from __future__ import annotations

from typing import Literal, Unpack, overload

from embedmq_schemas.requests import Lane

from embedmq.defaults import EVERY, OF_EMBED, defaulted
from embedmq.embeddings import Embedding
from embedmq.errors import EmbedMQError
from embedmq.map_items import Course, MapOptions, Mapped, map_items
from embedmq.publish_all import Posting, Published, publish_all
from embedmq.requests import EmbedOptions
from embedmq.source import Source
from embedmq.started import Started


class Streaming(Started):
    """The methods of a client for inputs of any length."""

    @overload
    def map(
        self, model: str, items: Source, *, return_exceptions: Literal[False] = False, **options: Unpack[MapOptions]
    ) -> Mapped[Embedding]: ...
    @overload
    def map(
        self, model: str, items: Source, *, return_exceptions: bool, **options: Unpack[MapOptions]
    ) -> Mapped[Embedding | EmbedMQError]: ...
    @defaulted(OF_EMBED)  # type: ignore[misc]  # mypy does not find the keywords of an Unpack behind a decorator
    def map(
        self,
        model: str,
        items: Source,
        *,
        max_in_flight: int = 1_024,
        ordered: bool = True,
        return_exceptions: bool = False,
        lane: Lane = "bulk",
        timeout_s: float | None = None,
        **options: Unpack[EmbedOptions],
    ) -> Mapped[Embedding] | Mapped[Embedding | EmbedMQError]:
        """One `Embedding` an item, while the items still come in: `async for r in mq.map("minilm", texts)`.

        `items` is an iterable or async iterable of items as in `embed`, or of pairs `(item_id, item)`; it may have no
        end. At most `max_in_flight` items have been taken from it and not been used up by the loop, so memory does not
        grow, and a slow consumer slows the source down. (The client's `max_in_flight_items` bounds what is sent at
        once, here too.) What has arrived goes out when the source makes us wait. A synchronous source is asked in the
        thread of the event loop, which gets its turn every few milliseconds, but stands still while the source blocks:
        make one that blocks an async generator (`await asyncio.to_thread(next, rows)`).

        With `ordered=False` vectors come as they arrive. `timeout_s` is each record's, from when it is sent. Each
        `Embedding` is a view of the answer to its record: copy the few that you keep for long.

        Leaving the loop early cancels what is on its way and closes the source if it is a generator; at once by
        `contextlib.aclosing(mq.map(...))`, else when Python clears up behind a `break`. So does a wait for one item
        that is cancelled, as by a time limit: the next raises RequestCancelled.

        Raises:
            InvalidRequest: an item that is none (`index` has its number), or what no request may ask for.
            RequestFailed and what else `embed` raises: an item failed; `return_exceptions=True` yields that exception
                in its place and goes on. Two revisions of the model in one map end it in any case.
            What the source raises, after what came before it.
        """
        course = Course(max_in_flight, ordered, return_exceptions, lane, timeout_s)
        return map_items(self._started(), model, items, course, **options)

    @defaulted(EVERY)
    async def publish_all(
        self,
        model: str,
        items: Source,
        *,
        reply_topic: str | None = None,
        keep_s: int | None = None,
        topic: str | None = None,
        lane: Lane = "bulk",
        timeout_s: float | None = None,
        id: str | None = None,
        encoding: str = "bytes",
        max_in_flight: int = 1_024,
        max_record_items: int = 64,
        **options: Unpack[EmbedOptions],
    ) -> Published:
        """Publish items as `map` takes them, in constant memory; returns once Kafka has them all for good.

        They travel in requests of up to `max_record_items`, whose ids are `<id>.0`, `<id>.1`, … in the order of the
        items (`Published.ids`); `id` is made up where none is given. Item ids come back in every answer. Vectors that
        do not fit one reply are answered `too_large`: lower `max_record_items`. `max_in_flight` is the most items that
        were taken and are not acknowledged.

        Raises:
            InvalidRequest, Unavailable, and what the source raises: the message (or a note) says how many of the first
            items Kafka has, so that one can go on behind them.
        """
        posting = Posting(reply_topic, keep_s, topic, lane, timeout_s, id, encoding, max_in_flight, max_record_items)
        return await publish_all(self._started(), model, items, posting, **options)
