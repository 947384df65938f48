"""What can go wrong for a caller?

    EmbedMQError
    ├── InvalidRequest        found before sending; the message says what, where and what to do
    ├── RequestFailed         the fleet answered with a failure: `code`, `attempts`, `retry_after_s`
    ├── Overloaded            the workers' estimated wait exceeds the time limit: `retry_after_s`
    ├── StillPending          no result yet; also a TimeoutError
    ├── DeadlineExceeded      the time limit passed; also a TimeoutError
    ├── ResultExpired         the result was there and is gone
    ├── UnknownRequest        nothing is known of this id
    ├── RequestCancelled      the request was cancelled
    └── Unavailable           Kafka or Redis away for too long, or not letting us in

`retryable` says whether the same call, made again, can succeed without any change.
"""

from __future__ import annotations


class EmbedMQError(Exception):
    """Everything that this package raises for reasons of its own."""

    retryable: bool = False
    index: int | None = None
    """Of one item of `map`: its number in the input, from 0, …"""
    item_id: str | None = None
    """… and its id, if it came with one."""


class InvalidRequest(EmbedMQError):
    """A request that cannot be right; nothing was sent."""


class RequestFailed(EmbedMQError):
    """The fleet could not do it; `code` is one of the wire's codes, `retryable` what the worker said of it. With
    `quota_exceeded` the same request may succeed after `retry_after_s` seconds.
    """

    def __init__(
        self,
        message: str,
        id: str = "",
        code: str = "processing_failed",
        retryable: bool = False,
        attempts: int = 1,
        retry_after_s: float | None = None,
    ) -> None:
        # all of it, so that it survives pickling
        super().__init__(message, id, code, retryable, attempts, retry_after_s)
        self.id = id
        self.code = code
        self.retryable = retryable
        self.attempts = attempts
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return str(self.args[0])


class Overloaded(EmbedMQError):
    """Refused before sending: the answer would come too late; ask again after `retry_after_s` seconds."""

    retryable = True

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message, retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return str(self.args[0])


class StillPending(EmbedMQError, TimeoutError):
    """The request was submitted and is not finished."""

    retryable = True


class DeadlineExceeded(EmbedMQError, TimeoutError):
    """The time limit passed before there was an answer."""

    retryable = True


class ResultExpired(EmbedMQError):
    """The request was finished, and its result was kept no longer."""


class UnknownRequest(EmbedMQError):
    """No request of this id was submitted, or so long ago that every trace of it is gone."""


class RequestCancelled(EmbedMQError):
    """The request was cancelled before it was computed."""


class Unavailable(EmbedMQError):
    """Kafka or Redis cannot be reached, or does not let us in."""

    retryable = True
