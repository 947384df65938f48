"""What do producers and workers say to each other? The wire format: requests, results, names, limits."""

from embedmq_schemas.catalogue import ModelEntry, ModelStatus, WorkerStatus
from embedmq_schemas.codec import (
    Undecodable,
    decode_request,
    decode_result,
    encode_request,
    encode_result,
    join_results,
    split_results,
)
from embedmq_schemas.codes import CODES, Code
from embedmq_schemas.limits import Limits
from embedmq_schemas.names import Names
from embedmq_schemas.requests import Embed, Item, Lane, Reply, Request, Score, StreamReply, TopicReply
from embedmq_schemas.results import Embedded, Failed, Failure, Result, Scored, Sparse, Tensor, Timing

__all__ = [
    "CODES",
    "Code",
    "Embed",
    "Embedded",
    "Failed",
    "Failure",
    "Item",
    "Lane",
    "Limits",
    "ModelEntry",
    "ModelStatus",
    "Names",
    "Reply",
    "Request",
    "Result",
    "Score",
    "Scored",
    "Sparse",
    "StreamReply",
    "Tensor",
    "Timing",
    "TopicReply",
    "Undecodable",
    "WorkerStatus",
    "decode_request",
    "decode_result",
    "encode_request",
    "encode_result",
    "join_results",
    "split_results",
]
