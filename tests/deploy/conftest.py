"""The programs that check, installed once; helm's output for any values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import tools
from tests.deploy.files import CHART, documents

Rendered = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def helm() -> Path:
    return tools.go_tool("helm")


@pytest.fixture(scope="session")
def rendered(helm: Path) -> Rendered:
    """rendered(values file or None, "KEY=VALUE", ...) gives the objects that would be installed."""
    return partial(_render, helm)


def _render(helm: Path, values: Path | None, *settings: str) -> list[dict[str, Any]]:
    options: list[str | Path] = [part for setting in settings for part in ("--set", setting)]
    return documents(tools.run(helm, "template", "mq", CHART, "--namespace", "prod", *given(values), *options))


def given(values: Path | None) -> list[str | Path]:
    """The option of helm that names a file of values."""
    return ["--values", values] if values else []
