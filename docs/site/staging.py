"""What does the site show of the files in `docs/`? The pages as GitHub shows them, links and fences translated."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

from docs.site.links import is_outside, redirect

PUBLISHED: Final = frozenset({".md", ".svg", ".json"})
_FENCE: Final = re.compile(r"^```(\w+) (.+)$", re.MULTILINE)


def stage(docs: Path, folder: Path, repository: str) -> None:
    """Lay out what mkdocs reads in an empty `folder`; `repository` is the address of the project's files."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in sorted(docs.rglob("*")):
        if path.suffix in PUBLISHED:
            place = folder / path.relative_to(docs)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".md":
                place.write_text(translate(path.read_text("utf-8"), path, docs, repository), "utf-8")
            else:
                shutil.copyfile(path, place)
    shutil.copytree(docs / "site" / "theme", folder / "theme")


def translate(text: str, page: Path, docs: Path, repository: str) -> str:
    """A page of the site: links out of `docs/` lead to the repository, a name behind a language is a title."""
    linked = redirect(text, lambda target: _address(target, page, docs, repository))
    return _FENCE.sub(r'```\1 title="\2"', linked)


def _address(target: str, page: Path, docs: Path, repository: str) -> str:
    name, hash_, anchor = target.partition("#")
    if is_outside(target) or not name:
        return target
    file = (page.parent / name).resolve()
    if file.is_dir() and (file / "README.md").exists() and file.is_relative_to(docs):
        return f"{name.rstrip('/')}/README.md{hash_}{anchor}"
    if file.suffix in PUBLISHED and file.is_relative_to(docs):
        return target
    kind = "tree" if file.is_dir() else "blob"
    return f"{repository}/{kind}/main/{file.relative_to(docs.parent).as_posix()}{hash_}{anchor}"
