"""A tenant with topics of its own is nobody else, and nobody else is it."""

from __future__ import annotations

import pytest
from embedmq_schemas.names import Names
from embedmq_worker.config import Tenant
from embedmq_worker.engine.seam import Fault
from embedmq_worker.identity import Owners

from tests.worker.jobs import make_record

NAMES = Names("embedmq")
OWNERS = Owners({"acme": Tenant(topics=["embedmq.acme-*"]), "free": Tenant(items_per_s=1)}, NAMES)


@pytest.mark.parametrize(
    ("topic", "stated", "tenant"),
    [
        ("embedmq.acme-minilm.bulk", "", "acme"),
        ("embedmq.acme-minilm.bulk", "acme", "acme"),
        ("embedmq.minilm.bulk", "", ""),
        ("embedmq.minilm.bulk", "free", "free"),
        ("embedmq.minilm.bulk", "anybody", "anybody"),
    ],
)
def test_a_topic_says_whose_it_is_and_elsewhere_the_request_does(topic: str, stated: str, tenant: str) -> None:
    """The header and the field count where no tenant owns the topic."""
    assert OWNERS.identify(make_record(topic=topic), stated) == tenant


@pytest.mark.parametrize(("topic", "stated"), [("embedmq.acme-minilm.bulk", "free"), ("embedmq.minilm.bulk", "acme")])
def test_nobody_poses_as_another(topic: str, stated: str) -> None:
    """Neither on a tenant's own topics as somebody else, nor elsewhere as one who has topics."""
    fault = OWNERS.identify(make_record(topic=topic), stated)
    assert isinstance(fault, Fault)
    assert fault.code == "malformed"


def test_what_is_tried_again_belongs_to_the_topic_where_it_was_first() -> None:
    """Retry topics are everybody's, and written by workers only; the same header counts nowhere else."""
    headers = [("kafka_dlt-original-topic", b"embedmq.acme-minilm.bulk")]
    assert OWNERS.identify(make_record(topic=NAMES.retry(10), headers=headers), "") == "acme"
    assert OWNERS.identify(make_record(topic="embedmq.minilm.bulk", headers=headers), "") == ""
