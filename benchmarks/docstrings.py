"""Which texts are embedded? Docstrings of Python's own standard library, the same ones every time."""

from __future__ import annotations

import ast
import random
import sysconfig
import textwrap
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

SEED = 20_240_229
SHORT_CHARACTERS, LONG_CHARACTERS = 120, 1_870
"""About 25 and 512 tokens of MiniLM's: one is 3.65 characters of these texts."""


def choose(count: int) -> list[str]:
    """That many docstrings of modules, classes and functions, in an order that has nothing to do with their lengths.

    No two are the same, since a worker computes only one of those. Past the end of the library (about 3,700) they come
    round again.
    """
    found = list(dict.fromkeys(islice(_library(), 4 * count)))
    chosen = random.Random(SEED).sample(found, min(count, len(found)))
    return list(islice(cycle(chosen), count))


def short(count: int) -> list[str]:
    """The same, cut at a sentence's length."""
    return [text[:SHORT_CHARACTERS] for text in choose(count)]


def long(count: int) -> list[str]:
    """All of them end to end, cut into texts of about 512 tokens; they too come round again."""
    pieces = textwrap.wrap(" ".join(_library()), LONG_CHARACTERS)
    return list(islice(cycle(pieces), count))


def _library() -> Iterator[str]:
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(library.glob("*.py"))
    for file in random.Random(SEED).sample(files, len(files)):
        yield from _docstrings(file)


def _docstrings(file: Path) -> list[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    texts = [ast.get_docstring(node) for node in nodes if isinstance(node, documented)]
    return [text for text in texts if text]
