"""docs/reindex.md is true: its examples are taken from the page and run, with real servers and constant vectors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from embedmq_local.stack import Stack

from tests.bulk.conftest import postgres, postgres_server
from tests.docs.walk import Walk, sections, walking

__all__ = ["postgres", "postgres_server"]

PAGE = "reindex.md"
MODELS = """
[models.minilm]
checkpoint = "null:384"
pinned = true
"""


@pytest.fixture(scope="module")
def walk(stack: Stack, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """The page, beside a worker that serves `minilm` without computing anything: vectors have its width."""
    folder = tmp_path_factory.mktemp("reindex")
    with walking(PAGE, MODELS, stack, request.getfixturevalue("postgres"), folder) as walk:
        yield walk


@pytest.mark.timeout(180)
@pytest.mark.parametrize("section", [heading for heading, blocks in sections(PAGE).items() if blocks])
def test_a_section_does_as_it_says(walk: Walk, section: str) -> None:
    """Its files and commands as they stand, and what they print but for figures; sections may build on each other."""
    walk.to(section)
