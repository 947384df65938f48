"""Which decisions were taken? One row for each page of `docs/decisions/`."""

from __future__ import annotations

import re
from pathlib import Path

from docs.pages.markdown import NOTE, table

INTRODUCTION = """\
# Decisions

Why things are as they are: what was known, what was decided, and what would change our mind. A page is never
rewritten; a later one says which it replaces.

"""


def page(folder: Path) -> str:
    """docs/decisions/README.md."""
    return NOTE + INTRODUCTION + table(("number", "decision"), map(_row, sorted(folder.glob("[0-9]*.md"))))


def _row(path: Path) -> tuple[str, str]:
    heading = path.read_text("utf-8").splitlines()[0]
    return path.name[:4].lstrip("0"), f"[{re.sub(r'^# [0-9]+[.:] ', '', heading)}]({path.name})"
