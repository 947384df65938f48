"""EmbedMQ for producers: publish texts to Kafka, get their vectors back through Redis or a reply topic."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedmq_schemas.results import Failed

    from embedmq.client import Client
    from embedmq.defaults import Defaults
    from embedmq.embeddings import Embedding, Embeddings, SparseVector
    from embedmq.errors import (
        DeadlineExceeded,
        EmbedMQError,
        InvalidRequest,
        Overloaded,
        RequestCancelled,
        RequestFailed,
        ResultExpired,
        StillPending,
        Unavailable,
        UnknownRequest,
    )
    from embedmq.fleet import ServedModel
    from embedmq.kept import Ticket
    from embedmq.publish_all import Published
    from embedmq.reply_topic import replies
    from embedmq.scores import Scores
    from embedmq.sync import SyncClient

__all__ = [
    "Client",
    "DeadlineExceeded",
    "Defaults",
    "EmbedMQError",
    "Embedding",
    "Embeddings",
    "Failed",
    "InvalidRequest",
    "Overloaded",
    "Published",
    "RequestCancelled",
    "RequestFailed",
    "ResultExpired",
    "Scores",
    "ServedModel",
    "SparseVector",
    "StillPending",
    "SyncClient",
    "Ticket",
    "Unavailable",
    "UnknownRequest",
    "replies",
]

_MODULES = {
    "Client": "client",
    "Defaults": "defaults",
    "Embedding": "embeddings",
    "Embeddings": "embeddings",
    "Failed": "reply_topic",
    "Published": "publish_all",
    "Scores": "scores",
    "ServedModel": "fleet",
    "SparseVector": "embeddings",
    "SyncClient": "sync",
    "Ticket": "kept",
    "replies": "reply_topic",
}


def __getattr__(name: str) -> object:
    """Import what is asked for, so that the command line starts without Kafka's and Redis's clients."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
