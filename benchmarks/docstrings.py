"""Which texts are embedded? Docstrings of Python's own standard library, the same ones every time."""

from __future__ import annotations

import ast
import random
import sysconfig
from pathlib import Path

SEED = 20_240_229


def choose(count: int) -> list[str]:
    """That many docstrings of modules, classes and functions, in an order that has nothing to do with their lengths."""
    library = Path(sysconfig.get_path("stdlib"))
    files = random.Random(SEED).sample(sorted(library.glob("*.py")), len(sorted(library.glob("*.py"))))
    found: list[str] = []
    for file in files:
        found += _docstrings(file)
        if len(found) >= 4 * count:
            break
    return random.Random(SEED).sample(found, count)


def _docstrings(file: Path) -> list[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    texts = [ast.get_docstring(node) for node in nodes if isinstance(node, documented)]
    return [text for text in texts if text]
