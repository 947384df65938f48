"""Which texts does every Python carry that are worth searching? The docstrings of its standard library."""

from __future__ import annotations

import ast
import random
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SKIPPED = frozenset({"test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo", "__pycache__"})
SHORTEST = 60  # characters: a docstring that says something


class Docstring(NamedTuple):
    """A docstring and where it stands, as in `json.decoder.JSONDecoder`."""

    name: str
    text: str


def choose(count: int, seed: int = 0) -> list[Docstring]:
    """A seeded choice of distinct docstrings of this Python's standard library, always the same on one version."""
    found = {docstring.text: docstring for docstring in _collect(Path(sysconfig.get_paths()["stdlib"]))}
    ordered = sorted(found.values())
    return random.Random(seed).sample(ordered, min(count, len(ordered)))


def _collect(root: Path) -> Iterator[Docstring]:
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if SKIPPED.isdisjoint(parts) and not any(part.startswith("_") for part in parts[:-1]):
            yield from _parse(path, ".".join(part for part in parts if part != "__init__"))


def _parse(path: Path, module: str) -> Iterator[Docstring]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in old modules are not ours to report
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return
    yield from _walk(tree, module)


def _walk(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Iterator[Docstring]:
    text = ast.get_docstring(node)
    if text is not None and len(text) >= SHORTEST:
        yield Docstring(name, text)
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            yield from _walk(child, f"{name}.{child.name}")
