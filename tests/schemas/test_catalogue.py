"""Can a client read what a later worker publishes?"""

from __future__ import annotations

import msgspec
import pytest
from embedmq_schemas import Limits, ModelEntry, ModelStatus, WorkerStatus
from embedmq_schemas.catalogue import decode_model, decode_worker, encode


def test_entries_come_back_as_they_were_written() -> None:
    """JSON in Redis, for people and programs."""
    entry = ModelEntry(name="minilm", dimensions=384, outputs=["dense", "sparse"], limits=Limits(max_items=7))
    worker = WorkerStatus(id="w", models={"minilm": ModelStatus(state="resident", wait_s={"bulk": 1.5})})
    assert decode_model(encode(entry)) == entry
    assert decode_worker(encode(worker)) == worker


def test_what_a_later_worker_adds_is_passed_over() -> None:
    """Also inside `limits`, which are strict in a worker's own file."""
    assert decode_model(b'{"name":"m","later":1,"limits":{"max_items":7,"later":2}}') == ModelEntry(
        name="m", limits=Limits(max_items=7)
    )
    later = b'{"id":"w","later":1,"models":{"m":{"state":"dozing","later":2}}}'
    assert decode_worker(later) == WorkerStatus(id="w", models={"m": ModelStatus(state="dozing")})


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"name":5}', b'{"id":5}', b"\xff"])
def test_what_is_no_entry_is_an_error(value: bytes) -> None:
    """Somebody else's key is not taken for ours."""
    with pytest.raises(msgspec.MsgspecError):
        decode_model(value)
    with pytest.raises(msgspec.MsgspecError):
        decode_worker(value)
