"""What do our own source files say of themselves?"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = {
    "embedmq_schemas": ROOT / "schemas" / "embedmq_schemas",
    "embedmq": ROOT / "producer" / "embedmq",
    "embedmq_worker": ROOT / "worker" / "embedmq_worker",
    "embedmq_local": ROOT / "deploy" / "embedmq_local",
}
"""Where the source of each package is, in the order of what may import what."""


def modules(package: str) -> Iterator[Path]:
    """The files of a package and of those within it: each folder's own first."""
    folder = PACKAGES[package]
    return iter(sorted(folder.rglob("*.py"), key=lambda path: (path.parent.parts, path.name)))


def module_name(package: str, path: Path) -> str:
    """The name under which a file is imported."""
    inner = path.relative_to(PACKAGES[package]).with_suffix("").parts
    return ".".join((package, *(part for part in inner if part != "__init__")))


def sentence(tree: ast.Module) -> str:
    """The first paragraph of a module's docstring, on one line; empty without one."""
    return " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())


def parse(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text("utf-8"), str(path))


def attribute_docs(cls: type) -> dict[str, str]:
    """What the string under each annotated attribute says, for a class and those it inherits from."""
    found: dict[str, str] = {}
    for kind in reversed(cls.__mro__):
        if not kind.__module__.startswith("embedmq"):
            continue
        (body,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind))).body
        assert isinstance(body, ast.ClassDef)  # noqa: S101 -- it is the source of a class
        for attribute, after in zip(body.body, body.body[1:], strict=False):
            match attribute, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
                case _:
                    continue
    return found
