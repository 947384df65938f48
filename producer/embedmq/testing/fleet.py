"""What stands in for Kafka, the workers and Redis in a test, and how does the test say what becomes of a request?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from math import inf

from embedmq_schemas.catalogue import ModelStatus, WorkerStatus
from embedmq_schemas.catalogue import encode as encode_entry
from embedmq_schemas.codec import decode_request, decode_result, encode_result
from embedmq_schemas.codes import CODES, Code
from embedmq_schemas.names import Names, is_model_name
from embedmq_schemas.requests import Item, Request, StreamReply, TopicReply
from embedmq_schemas.results import Embedded, Failed, Result
from embedmq_schemas.stub import CANCELLED, COMPLETED
from msgspec import Struct

from embedmq.embeddings import Embeddings
from embedmq.errors import EmbedMQError
from embedmq.scores import Scores
from embedmq.testing.answer import answer, failed
from embedmq.testing.calls import Call
from embedmq.testing.memory import Memory
from embedmq.testing.model import FakeModel
from embedmq.testing.script import Fault, failures

Reply = Embeddings | Scores | Failed
"""What `embedmq.replies` gives."""


class PublishedRequest(Struct, frozen=True):
    """A request that was left on a topic without waiting for its answer."""

    topic: str
    request: Request


class FakeFleet:
    """The world of one test, which any number of fake clients may share: requests are answered at once, in memory,
    unless the test has it otherwise. It may be used from several threads.
    """

    def __init__(
        self, models: Mapping[str, int | FakeModel] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """`models` by name, a number standing for a model of dense vectors of that width; by default `minilm`, 384
        wide. `clock` gives seconds; kept results expire by it. Raises ValueError.
        """
        given = {"minilm": 384} if models is None else models
        self.models = {
            name: FakeModel(dimensions=model) if isinstance(model, int) else model for name, model in given.items()
        }
        for name in self.models:
            if not is_model_name(name):
                raise ValueError(f"models: {name!r} is no model's name: lower-case letters, digits and dashes")
        self.memory = Memory(clock)
        self.calls: list[Call] = []
        self.published: list[PublishedRequest] = []
        self.replies: dict[str, list[Reply]] = {}
        self._faults: list[Fault] = []
        self._holding: set[str | None] = set()
        self._held: list[tuple[Request, Names]] = []
        self._clients: dict[str, Callable[[Result], object]] = {}
        self._changed = threading.Condition(threading.RLock())

    def fail(
        self,
        model: str | None,
        code: Code,
        message: str,
        items: Callable[[Item], bool] | None,
        error: EmbedMQError | None,
        times: int | None,
    ) -> None:
        """See `Scripted.fail`."""
        if code not in CODES:
            raise ValueError(f"code: {code!r} is none of {', '.join(CODES)}")
        self._check_known(model)
        with self._changed:
            self._faults.append(Fault(model, code, message, items, error, times))

    def hold(self, model: str | None) -> None:
        """Answer no further requests."""
        self._check_known(model)
        with self._changed:
            self._holding.add(model)

    @property
    def held(self) -> list[Request]:
        """What waits to be released, in order."""
        with self._changed:
            return [request for request, _ in self._held]

    def wait_held(self, count: int, timeout_s: float) -> list[Request]:
        """Wait until `count` requests are held; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._held) >= count, timeout_s):
                raise TimeoutError(f"{len(self._held)} requests are held, not {count}, after {timeout_s:g} s")
            return self.held

    def release(self, count: int | None) -> None:
        """Answer the first `count` of what is held; None for all, and hold no more."""
        with self._changed:
            released, self._held = self._held[:count], [] if count is None else self._held[count:]
            if count is None:
                self._holding.clear()
            for request, names in released:
                self._answer(request, names)

    def heal(self) -> None:
        """Nothing fails any more."""
        with self._changed:
            self._faults.clear()

    def join(self, client: str, names: Names, deliver: Callable[[Result], object]) -> None:
        """A client begins: tell it what is served, and learn how it gets its answers."""
        with self._changed:
            self._clients[client] = deliver
        states = {name: ModelStatus(state="resident", pinned=True) for name in self.models}
        self.memory.put(names.worker("fake"), encode_entry(WorkerStatus(id="fake", models=states)), inf)
        for name, model in self.models.items():
            self.memory.put(names.model(name), encode_entry(model.entry(name)), inf)

    def leave(self, client: str) -> None:
        """A client ends: what is still answered is for nobody."""
        with self._changed:
            self._clients.pop(client, None)

    def has_topic(self, topic: str, names: Names) -> bool:
        """Whether Kafka would know a topic: those of the models, and any that is not ours."""
        place = names.parse(topic)
        return not topic.startswith(names.prefix + ".") or (place is not None and place[0] in self.models)

    def take(self, topic: str, value: bytes, names: Names, *, left: bool) -> None:
        """A request arrives, `left` by a caller who does not wait; raises the error that the test has set for it."""
        request = decode_request(value, "msgpack")
        with self._changed:
            fault = next((each for each in self._faults if each.error is not None and each.concerns(request)), None)
            if fault is not None and fault.error is not None:
                fault.use()
                raise type(fault.error)(*fault.error.args)
            if left:
                self.published.append(PublishedRequest(topic, request))
            if self._holding & {None, request.model}:
                self._held.append((request, names))
                self._changed.notify_all()
            else:
                self._answer(request, names)

    def _answer(self, request: Request, names: Names) -> None:
        result = self._compute(request, names)
        encoded, id = encode_result(result), request.id or ""
        if isinstance(request.reply, StreamReply):
            if (deliver := self._clients.get(request.reply.client)) is not None:  # else it has ended
                deliver(decode_result(encoded))
        elif isinstance(request.reply, TopicReply):
            self.replies.setdefault(request.reply.topic, []).append(_read(decode_result(encoded)))
        if request.keep_s:
            self.memory.put(names.result(id), encoded, request.keep_s)
            cancelled = isinstance(result, Failed) and result.code == "cancelled"
            self.memory.swap(names.stub(id), CANCELLED if cancelled else COMPLETED)

    def _compute(self, request: Request, names: Names) -> Result:
        model = self.models.get(request.model or "")
        if self.memory.get(names.cancel(request.id or "")) is not None:
            return failed(request, "cancelled", "it was cancelled before it was computed")
        if request.deadline_unix_ms is not None and request.deadline_unix_ms <= time.time() * 1000:
            return failed(request, "deadline_exceeded", "its deadline passed before it was computed")
        if model is None:
            return failed(request, "unknown_model", f"no worker serves {request.model}")
        faults = [fault for fault in self._faults if fault.error is None and fault.concerns(request)]
        whole = next((fault for fault in faults if fault.items is None), None)
        for fault in faults if whole is None else [whole]:
            fault.use()
        if whole is not None:
            return failed(request, whole.code, whole.message)
        return answer(request, model, failures(faults, request))

    def _check_known(self, model: str | None) -> None:
        if model is not None and model not in self.models:
            raise ValueError(f"model: {model!r} is not served here; these are: {', '.join(self.models)}")


def _read(result: Result) -> Reply:
    if isinstance(result, Failed):
        return result
    return Embeddings.read(result) if isinstance(result, Embedded) else Scores(result)
