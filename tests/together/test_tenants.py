"""A tenant over its quota is told so, and its neighbours notice nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from textwrap import indent
from typing import Any

import embedmq
import pytest
import pytest_asyncio
from embedmq_local.stack import Stack

from docs.pages.source import ROOT
from tests.serving import serving

PAGE = (ROOT / "docs" / "tenants.md").read_text("utf-8")
(SETTINGS,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(EXAMPLE,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
MODELS = """
[models.null]
checkpoint = "null:8"

[models.acme-null]
checkpoint = "null:8"
"""


@pytest.fixture(scope="module")
def served(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The prefix of a worker with the page's tenants; of their topics the prefix may be any."""
    settings = SETTINGS.replace('"embedmq.acme', '"*.acme')
    with serving(stack, tmp_path_factory.mktemp("tenants"), MODELS + settings) as prefix:
        yield prefix


@pytest_asyncio.fixture
async def mq(stack: Stack, served: str) -> AsyncIterator[embedmq.Client]:
    async with embedmq.Client(stack.kafka, stack.redis, prefix=served) as client:
        yield client


async def test_over_its_quota_a_tenant_is_told_when_to_come_again(mq: embedmq.Client) -> None:
    """What the page says, by the page's own settings: on the tenant's topics, whatever the request says."""
    await mq.embed("acme-null", ["x"] * 12)
    seen: dict[str, Any] = {"mq": mq, "embedmq": embedmq}
    exec("async def example():\n" + indent(EXAMPLE + "return wait_s\n", "    "), seen)
    assert 1_000 < await seen["example"]() <= 2_000
    with pytest.raises(embedmq.RequestFailed):
        await mq.embed("acme-null", ["a cat"], tenant="acme")
    assert (await mq.embed("null", ["a cat"], tenant="neighbour")).dense.shape == (1, 8)


async def test_calls_of_one_moment_are_refused_together(mq: embedmq.Client) -> None:
    """They share a record, and each has the answer under its own id."""
    await mq.embed("null", ["x"] * 12, tenant="free")
    answers = await asyncio.gather(
        *(mq.embed("null", ["a cat"], tenant="free") for _ in range(3)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, embedmq.RequestFailed)]
    assert [error.code for error in refused] == ["quota_exceeded"] * 3
    assert len({error.id for error in refused}) == 3


async def test_nobody_else_spends_what_a_tenant_with_topics_has(mq: embedmq.Client) -> None:
    """Its name is refused where anybody may write."""
    with pytest.raises(embedmq.RequestFailed, match="topics of its own") as caught:
        await mq.embed("null", ["a cat"], tenant="acme")
    assert caught.value.code == "malformed"
