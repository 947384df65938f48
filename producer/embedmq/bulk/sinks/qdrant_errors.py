"""What does an error of Qdrant mean to a bulk job?"""

from __future__ import annotations

import sqlite3
from typing import Final

from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from embedmq.bulk.errors import Away, BulkError, SinkRefused

FAILURES: Final = (ResponseHandlingException, UnexpectedResponse, OSError, sqlite3.Error, ValueError)
"""What Qdrant's client raises, of a server and in a folder."""
_FULL: Final = ("No space left", "available disk space", "disk is full")
_PASSING: Final = (408, 409, 429)


def explain(error: Exception, where: str) -> BulkError:
    """Away when it may work later with nothing changed, else SinkRefused; in one line."""
    if isinstance(error, UnexpectedResponse):
        said = error.content.decode("utf-8", "replace")
        what = f"{error.status_code} {error.reason_phrase}: {said}"
        status = error.status_code or 0
    else:
        what, status = str(error) or type(error).__name__, 0
    what = " ".join(what.split())[:500]
    if any(word in what for word in _FULL):
        return SinkRefused(f"{where}: {what}: make room, then run the same command")
    if status in (401, 403):
        return SinkRefused(f"{where} does not let us in ({what}): check QDRANT_API_KEY")
    if status >= 500 or status in _PASSING or isinstance(error, ResponseHandlingException):
        return Away(f"{where} is away: {what}")
    return SinkRefused(f"{where}: {what}")
