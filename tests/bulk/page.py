"""The adapters that docs/adapters.md shows, installed as a team would install its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.pages.source import ROOT


def install(heading: str, group: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the code below a heading, and its entry point, into a package in `folder`, which can be imported from."""
    page = (ROOT / "docs" / "adapters.md").read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ((name, module, attribute),) = re.findall(r'^(\w+) = "(\w+):(\w+)"$', page, re.MULTILINE)
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:{attribute}\n")
    monkeypatch.syspath_prepend(folder)
