"""Builds the site into `build/site`; every link and anchor is checked, and nothing in it is fetched from elsewhere.

`python -m docs.site`, from the repository's root; needs the dependency group `site`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from docs.pages.source import ROOT
from docs.site.navigation import navigation
from docs.site.staging import stage

DOCS: Final = ROOT / "docs"
BUILD: Final = ROOT / "build"
_FETCHED: Final = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=["']?((?:https?:)?//[^"'\s>]+)
    | <link\b(?![^>]*\brel=["']?(?:canonical|prev|next))[^>]*\bhref=["']?((?:https?:)?//[^"'\s>]+)
    | url\(["']?((?:https?:)?//[^"')]+) | @import\s+["']((?:https?:)?//[^"']+)""",
    re.VERBOSE,
)
"""What a browser fetches by itself; a link that somebody clicks is none."""


def main() -> int:
    """Stage, build, check; returns the exit code."""
    stage(DOCS, BUILD / "pages", repository())
    config = BUILD / "mkdocs.yml"
    config.write_text(json.dumps(settings(), indent=2), "utf-8")  # JSON is YAML
    # not --quiet, with which --strict counts no warnings
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "--config-file", str(config)]
    if code := subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=False).returncode:
        return code
    found = sorted(fetched(BUILD / "site"))
    for line in found:
        print(f"the site would fetch {line}: it must work without a network", file=sys.stderr)
    print("built build/site: read it by `python -m http.server --directory build/site`")
    return 1 if found else 0


def settings() -> dict[str, object]:
    """What mkdocs is told beside mkdocs.yml of this folder: what depends on what is there."""
    inherited = Path("..", "docs", "site", "mkdocs.yml").as_posix()
    return {"INHERIT": inherited, "docs_dir": "pages", "site_dir": "site", "nav": navigation(DOCS)}


def repository() -> str:
    """The address of the project's files, as pyproject.toml has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    address: str = project["urls"]["Documentation"]
    return address.partition("#")[0]


def fetched(site: Path) -> Iterator[str]:
    """What pages and styles of a built site have a browser fetch from elsewhere, and which file does."""
    for path in [*site.rglob("*.html"), *site.rglob("*.css"), *site.rglob("*.svg")]:
        for groups in _FETCHED.findall(path.read_text("utf-8")):
            yield f"{''.join(groups)} for {path.relative_to(site).as_posix()}"


if __name__ == "__main__":
    sys.exit(main())
