"""Which events does a worker log, and with which fields? Read from the calls themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from docs.pages.markdown import NOTE, table
from docs.pages.source import module_name, modules, parse

LEVELS: Final = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}
HEAD = ("event", "level", "fields", "where")
INTRODUCTION = """\
# Logs

A worker writes one JSON object a line to standard error: `time` (UTC), `level`, `event`, `logger`, `worker` (its
id), the fields below, and `traceback` where something unexpected was caught. There is one event for each batch and
each change of state, none for each request, and never the text of one. `worker.log_level` says which levels are
written. Libraries' warnings come in the same form, with their message as the event.

"""

Row = tuple[str, str, str, str]


def page() -> str:
    """docs/logs.md."""
    rows = {row for path in modules("embedmq_worker") for row in events(path, module_name("embedmq_worker", path))}
    return NOTE + INTRODUCTION + table(HEAD, sorted(rows, key=lambda row: row[0].strip("`")))


def events(path: Path, module: str) -> Iterator[Row]:
    """The events of one file; raises ValueError where a call leaves open which event it is, or with which fields."""
    tree = parse(path)
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=[first, *_]):
                match first:
                    case ast.Constant(value=str(event)):
                        keys = [key for word in node.keywords if word.arg == "extra" for key in _keys(word.value, tree)]
                        fields = ", ".join(f"`{key}`" for key in dict.fromkeys(keys))
                        yield f"`{event}`", LEVELS[level], fields, f"`{module}`"
                    case _:
                        raise ValueError(f"{path}:{node.lineno}: the name of an event must be written out")
            case _:
                continue


def _keys(value: ast.expr, tree: ast.Module) -> Iterator[str]:
    """The keys of a dictionary that is written out, here or where its name or its function is defined."""
    match value:
        case ast.Dict(keys=keys, values=values):
            for key, inner in zip(keys, values, strict=True):
                if key is None:
                    yield from _keys(inner, tree)
                else:
                    yield str(ast.literal_eval(key))
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)) if written := list(_written(name, tree)):
            for found in written:
                yield from _keys(found, tree)
        case _:
            raise ValueError(f"line {value.lineno}: logs.md cannot tell the fields of `{ast.unparse(value)}`")


def _written(name: str, tree: ast.Module) -> Iterator[ast.expr]:
    """What a name is assigned, or a function of that name returns."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=found)], value=assigned) if found == name:
                yield assigned
            case ast.FunctionDef(name=found, body=[*_, ast.Return(value=ast.expr() as returned)]) if found == name:
                yield returned
            case _:
                continue
