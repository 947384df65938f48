"""Where do the links of a page lead, and which lead nowhere? Pure but for looking whether files are there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

_PARTS: Final = re.compile(
    r"""(?P<fence>^(?P<fenced>```+|~~~+).*?^(?P=fenced)[ ]*$)
    | (?P<code>(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`))
    | (?<=\]\()(?P<target>[^)\s]+)(?=(?:[ ]"[^"]*")?\))""",
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
"""What a page is made of, as far as links go; what looks like a link in code is none."""
_HEADING: Final = re.compile(r"^#{1,6} +(.*?) *#*$", re.MULTILINE)
_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def slug(heading: str, separator: str = "-") -> str:
    """The anchor of a heading, as GitHub and the site make it: `The `[kafka]` table` is `the-kafka-table`."""
    return re.sub(r"[^\w\- ]", "", _LINK.sub(r"\1", heading)).strip().lower().replace(" ", separator)


def anchors(text: str) -> set[str]:
    """The anchors of a page, but for headings that are there twice: GitHub and the site number those differently."""
    bare = _PARTS.sub(lambda part: "" if part["fence"] else part[0], text)
    found = Counter(slug(heading) for heading in _HEADING.findall(bare))
    return {anchor for anchor, times in found.items() if times == 1}


def targets(text: str) -> list[str]:
    """The addresses of all links and pictures, in order."""
    return [part["target"] for part in _PARTS.finditer(text) if part["target"]]


def redirect(text: str, to: Callable[[str], str]) -> str:
    """The page, with each address replaced."""
    return _PARTS.sub(lambda part: to(part["target"]) if part["target"] else part[0], text)


def is_outside(target: str) -> bool:
    """Whether an address leads to another site."""
    return re.match(r"[a-z]+:", target) is not None


def broken(page: Path, root: Path) -> Iterator[str]:
    """The links of a page to files and headings that are not in the repository below `root`, each with the reason."""
    for target in targets(page.read_text("utf-8")):
        if is_outside(target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.is_relative_to(root) or not file.exists():
            yield f"{target}: there is no such file"
        elif anchor and (file.suffix != ".md" or anchor not in anchors(file.read_text("utf-8"))):
            yield f"{target}: there is no such heading, or several"
