"""Which commands are there, and where do they come from?"""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

GROUP: Final = "embedmq.commands"
"""Entry points by which other packages add commands."""

OWN: Final = (
    "cancel",
    "completion",
    "dead",
    "doctor",
    "embed",
    "job",
    "jobs",
    "models",
    "reindex",
    "result",
    "schema",
    "score",
    "submit",
    "top",
    "topics",
)
"""The commands of this package: each is a module of `embedmq.cli` and has its name there."""


def names() -> list[str]:
    """All commands."""
    return sorted({*OWN, *_others()})


def load(name: str) -> click.Command | None:
    """A command by its name; one whose package lacks its extra is there all the same, and says what to install."""
    if name in OWN:
        own: click.Command = getattr(import_module(f"embedmq.cli.{name}"), name)
        return own
    entry = _others().get(name)
    if entry is None:
        return None
    try:
        loaded = entry.load()
    except ImportError as error:
        return _absent(name, f"needs {error.name or error}, which is not installed", install_hint(entry.module))
    except Exception as error:  # another package's fault must not take the whole command line away
        return _absent(name, f"cannot be loaded: {type(error).__name__}: {error}", f"reinstall {entry.module}")
    return loaded if isinstance(loaded, click.Command) else None


def summary(name: str) -> str:
    """The first sentence about a command, read from its source: importing all of them takes longer than a list may."""
    entry = _others().get(name)
    module, function = (entry.module, entry.attr) if entry else (f"embedmq.cli.{name}", name)
    try:
        spec = find_spec(module)
        tree = ast.parse("" if spec is None or spec.origin is None else Path(spec.origin).read_text("utf-8"))
    except (ImportError, OSError, SyntaxError):
        return ""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def install_hint(module: str) -> str:
    """How to install what a module of ours needs: `embedmq_worker.commands` needs the extra `worker`."""
    return f"pip install 'embedmq[{module.split('.', 1)[0].removeprefix('embedmq_')}]'"


@cache
def _others() -> dict[str, EntryPoint]:
    """Looking through everything that is installed takes a while; nothing is installed meanwhile."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _absent(name: str, what: str, remedy: str) -> click.Command:
    """Stands for a command that is not there, and says why when it is called."""

    def say(arguments: tuple[str, ...]) -> None:
        del arguments  # whatever was asked, the answer is the same
        raise click.UsageError(f"{name} {what}: {remedy}")

    return click.Command(
        name,
        callback=say,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        help=f"Not available: {remedy}",
        context_settings={"ignore_unknown_options": True},
    )
