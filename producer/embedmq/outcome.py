"""Which exception does a failed answer become?"""

from __future__ import annotations

from collections.abc import Mapping

from embedmq_schemas.codes import CODES, CodeFacts
from embedmq_schemas.results import Failed, Failure

from embedmq.errors import DeadlineExceeded, EmbedMQError, RequestCancelled, RequestFailed

_FACTS: Mapping[str, CodeFacts] = {str(code): facts for code, facts in CODES.items()}


def error_of(failed: Failed) -> EmbedMQError:
    """The failure of a whole request."""
    if failed.code == "deadline_exceeded":
        return DeadlineExceeded(
            f"request {failed.id}: {failed.message or 'its deadline passed before it was computed'}"
        )
    if failed.code == "cancelled":
        return RequestCancelled(f"request {failed.id} was cancelled before it was computed")
    message = f"request {failed.id} failed: {failed.code}: {failed.message}"
    return RequestFailed(message, failed.id, failed.code, failed.retryable, failed.attempts, failed.retry_after_s)


def error_of_item(id: str, failures: Mapping[int, Failure]) -> RequestFailed:
    """The first failed item of a request whose other items may be well."""
    first = failures[min(failures)]
    others = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    message = f"request {id}: items[{first.index}] failed{others}: {first.code}: {first.message}"
    facts = _FACTS.get(first.code)  # None for a code of a later version
    return RequestFailed(
        f'{message}; on_error="return" gives the rest', id, first.code, facts is not None and facts.retryable
    )
