"""How does a program ask for vectors?"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Literal, Unpack

from embedmq_schemas.requests import Lane, TopicReply
from embedmq_schemas.results import Embedded, Failed

from embedmq.cancel import Cancelled
from embedmq.defaults import EVERY, OF_EMBED, OF_SCORE, defaulted
from embedmq.embeddings import Embeddings
from embedmq.errors import InvalidRequest
from embedmq.fleet import ServedModel
from embedmq.kept import Ticket
from embedmq.outcome import error_of, error_of_item
from embedmq.parts import ask_embed
from embedmq.requests import DENSE, EmbedOptions, ScoreOptions, build_embed, build_score, check_fits, encode
from embedmq.scores import Scores, read_scores
from embedmq.streaming import Streaming
from embedmq.validation import Items, check_address, check_keep, check_reply_topic, check_wait

OnError = Literal["raise", "return"]


class Client(Streaming):
    """Asks for vectors through Kafka and gets them through Redis.

        async with Client(kafka="127.0.0.1:9092", redis="redis://127.0.0.1:6379") as mq:
            r = await mq.embed("minilm", ["a cat", "a dog"])
            r.dense  # (2, 384)

    Without `redis` it can only `publish`. It belongs to the event loop and the process in which it was started. Every
    await ends: in a result, or in one of the errors of `embedmq.errors`. What a call does not say is as its method's
    signature has it, or as the client's own `defaults` do.
    """

    @defaulted(OF_EMBED)
    async def embed(
        self,
        model: str,
        items: Items,
        *,
        outputs: Sequence[str] = DENSE,
        prompt_name: str | None = None,
        prompt: str | None = None,
        dimensions: int | None = None,
        dtype: str = "float32",
        normalize: bool | None = None,
        truncate: bool = True,
        lane: Lane = "interactive",
        timeout_s: float | None = 60.0,
        tenant: str = "",
        revision: str | None = None,
        id: str | None = None,
        meta: Mapping[str, str] | None = None,
        item_ids: Sequence[str] | None = None,
        on_error: OnError = "raise",
    ) -> Embeddings:
        """Vectors of one item (`(1, d)`) or of several, in order; a call of any size.

        Raises:
            InvalidRequest, Overloaded, Unavailable: before or while sending.
            RequestFailed: the request failed, or with `on_error="raise"` one of its items.
            DeadlineExceeded: no answer within `timeout_s`; RequestCancelled.
        """
        session = self._started()
        session.check_streaming()
        request = build_embed(
            model,
            items,
            id=session.next_id() if id is None else id,
            timeout_s=timeout_s,
            reply=session.reply,
            outputs=outputs,
            prompt_name=prompt_name,
            prompt=prompt,
            dimensions=dimensions,
            dtype=dtype,
            normalize=normalize,
            truncate=truncate,
            tenant=tenant,
            revision=revision,
            meta=meta,
            item_ids=item_ids,
        )
        due = session.due(model, lane, timeout_s)
        route = await session.route(model, lane, id=id, due=due)
        in_company = id is None and meta is None and item_ids is None
        embeddings = await ask_embed(session, route, request, due, in_company=in_company)
        if embeddings.failures and on_error == "raise":
            raise error_of_item(embeddings.id, embeddings.failures)
        return embeddings

    @defaulted(OF_SCORE)
    async def score(
        self,
        model: str,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        lane: Lane = "interactive",
        timeout_s: float | None = 60.0,
        id: str | None = None,
        on_error: OnError = "raise",
        **options: Unpack[ScoreOptions],
    ) -> Scores:
        """How well each document answers the query; at most one record's worth. Raises as `embed` does."""
        session = self._started()
        session.check_streaming()
        own = session.next_id() if id is None else id
        request = build_score(
            model, query, documents, id=own, timeout_s=timeout_s, reply=session.reply, top_n=top_n, **options
        )
        due = session.due(model, lane, timeout_s)
        route = await session.route(model, lane, id=id, due=due)
        value = encode(request)
        check_fits(request, value, route.limits)
        scores = read_scores(await session.ask(route, request, value, len(request.documents), due))
        if scores.failures and on_error == "raise":
            raise error_of_item(scores.id, scores.failures)
        return scores

    @defaulted(EVERY)
    async def submit(
        self,
        model: str,
        items: Items,
        *,
        keep_s: int = 3_600,
        lane: Lane = "interactive",
        timeout_s: float | None = None,
        id: str | None = None,
        **options: Unpack[EmbedOptions],
    ) -> Ticket:
        """Leave a request whose result is kept for `keep_s` seconds; returns once Kafka has it for good.

        Raises:
            InvalidRequest: also for more than one record's worth. Unavailable.
        """
        session = self._started()
        if session.kept is None:
            raise InvalidRequest("this client has no Redis, where results are kept: pass redis=, or publish")
        check_keep(keep_s)
        if not keep_s:
            raise InvalidRequest(f"keep_s: {keep_s!r}: a result is kept for 1 second or more; publish keeps nothing")
        own = str(uuid.uuid4()) if id is None else id
        request = build_embed(model, items, id=own, timeout_s=timeout_s, keep_s=keep_s, **options)
        route = await session.route(model, lane)
        value = encode(request)
        check_fits(request, value, route.limits)
        await session.kept.expect(own, keep_s, request.deadline_unix_ms)
        await session.publish(route, request, value, len(request.items))
        return Ticket(own)

    @defaulted(EVERY)
    async def publish(
        self,
        model: str,
        items: Items,
        *,
        reply_topic: str | None = None,
        keep_s: int | None = None,
        topic: str | None = None,
        lane: Lane = "bulk",
        timeout_s: float | None = None,
        id: str | None = None,
        encoding: str = "bytes",
        **options: Unpack[EmbedOptions],
    ) -> str:
        """Leave a request whose answer goes to `reply_topic` or is kept for `keep_s` seconds; returns its id once Kafka
        has it for good.

        Raises:
            InvalidRequest: also for more than one record's worth. Unavailable.
        """
        session = self._started()
        if reply_topic is None and keep_s is None:
            raise InvalidRequest("publish: say where the answer goes: reply_topic=, keep_s= (0 for nowhere), or both")
        own = str(uuid.uuid4()) if id is None else id
        if reply_topic is not None:
            check_reply_topic(reply_topic, session.names)
        reply = None if reply_topic is None else TopicReply(reply_topic)
        request = build_embed(
            model, items, id=own, timeout_s=timeout_s, reply=reply, keep_s=keep_s, encoding=encoding, **options
        )
        route = await session.route(model, lane, topic)
        value = encode(request)
        check_fits(request, value, route.limits)
        if keep_s and session.kept is not None:
            await session.kept.expect(own, keep_s, request.deadline_unix_ms)
        await session.publish(route, request, value, len(request.items))
        return own

    async def result(self, id: str, *, wait_s: float = 0.0, on_error: OnError = "raise") -> Embeddings:
        """The kept result of a request for vectors, waiting for it at most `wait_s` seconds.

        Raises:
            StillPending, DeadlineExceeded, ResultExpired, UnknownRequest, RequestCancelled: there is none.
            RequestFailed: it is a failure. Unavailable: Redis cannot be asked.
        """
        result = await self.any_result(id, wait_s=wait_s)
        if isinstance(result, Scores):
            raise InvalidRequest(f"request {id} asked for scores, not for vectors: any_result gives both")
        if result.failures and on_error == "raise":
            raise error_of_item(id, result.failures)
        return result

    async def any_result(self, id: str, *, wait_s: float = 0.0) -> Embeddings | Scores:
        """As `result`, of a request of either kind; failed items are in its `failures`."""
        session = self._started()
        if session.kept is None:
            raise InvalidRequest("this client has no Redis, where results are kept: pass redis=")
        check_wait(wait_s)
        result = await session.kept.fetch(id, wait_s)
        if isinstance(result, Failed):
            raise error_of(result)
        return Embeddings.read(result) if isinstance(result, Embedded) else read_scores(result)

    async def cancel(self, id: str) -> Cancelled:
        """Call off a request: one that waits in this process, where `embed` or `score` then ends in RequestCancelled,
        or one that was submitted, from anywhere.

        It is not computed if no worker has begun with it; if one has, its result wins. Returns `"cancelled"`,
        `"completed"` (there is an outcome already) or `"unknown"` (also for what was published without `keep_s`).

        Raises:
            InvalidRequest: what is no id. Unavailable.
        """
        check_address(id, None)
        return await self._started().cancel(id)

    async def models(self) -> list[ServedModel]:
        """What the fleet serves, by name, and each model's state on each worker. Raises Unavailable."""
        session = self._started()
        if session.fleet is None:
            raise InvalidRequest("this client has no Redis, where workers say what they serve: pass redis=")
        return await session.fleet.models()
