"""What will the vectors of a bulk job be like?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmq_schemas.limits import KIB, Limits

from embedmq.bulk.order import Order
from embedmq.bulk.rows import Shape
from embedmq.errors import DeadlineExceeded, InvalidRequest, RequestFailed, Unavailable

if TYPE_CHECKING:
    from embedmq.client import Client

PROBE = "a text of this job"
LEAST_S = 10.0
"""How long the first answer may take, even for those without patience."""
FRAME_BYTES = 4 * KIB
"""What a request has beside its text, at most."""


async def look(client: Client, order: Order) -> tuple[Shape, int]:
    """Ask for one vector as every row will, which tells width and revision, and what is wrong with the options; and how
    many bytes a text may have.

    Raises the errors of `Client.embed`; InvalidRequest where the model cannot do what is asked.
    """
    try:
        probe = await client.embed(
            order.model,
            [PROBE],
            lane="bulk",
            timeout_s=max(order.patience_s, LEAST_S),
            **order.options(),
        )
    except DeadlineExceeded:
        message = f"no worker has answered for {order.model} within {max(order.patience_s, LEAST_S):g} s"
        raise Unavailable(f"{message}: embedmq models shows who serves it, embedmq doctor what is wrong") from None
    except RequestFailed as error:
        if error.retryable:
            raise
        raise InvalidRequest(f"{order.model} cannot do this job: {error}") from None
    shape = Shape(
        dimensions=probe.dense.shape[1],
        dtype=order.dtype,
        model=order.model,
        revision=probe.revision,
        keep=order.columns.keep,
    )
    served = {model.name: model.entry.limits for model in await client.models()}
    return shape, served.get(order.model, Limits()).max_request_bytes - FRAME_BYTES
