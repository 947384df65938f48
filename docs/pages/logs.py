"""Which events does a worker log, and with which fields? Read from the calls themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from docs.pages.fields import COMMON, FIELDS, Field, field
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
written. Libraries' warnings come in the same form, with their message as the event. The JSON Schema
of a line is [`schemas/log.json`](schemas/log.json).

"""

Row = tuple[str, str, str, str]


def page() -> str:
    """docs/logs.md."""
    found = rows()
    meanings = {f"`{name}`": kind for name, kind in COMMON.items()}
    for event, name in ((plain(row[0]), name) for row in found for name in field_names(row)):
        kind = field(event, name)
        meanings[f"`{name}`" if FIELDS.get(name) == kind else f"`{name}` of `{event}`"] = kind
    return (
        NOTE
        + INTRODUCTION
        + table(HEAD, found)
        + "\n## Fields\n\n"
        + table(("field", "type", "meaning"), [(name, *kind) for name, kind in sorted(meanings.items())])
    )


def schema() -> dict[str, object]:
    """docs/schemas/log.json: of each event of ours, exactly its fields; of a library's, what every line has."""
    named: dict[str, list[list[str]]] = {}
    for row in rows():
        named.setdefault(plain(row[0]), []).append(field_names(row))
    ours = {event: _event(event, names) for event, names in named.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of a worker's log",
        "type": "object",
        "properties": {name: _type(kind) for name, kind in COMMON.items()},
        "required": [name for name in COMMON if name != "traceback"],
        "allOf": [
            {"if": {"properties": {"event": {"const": event}}}, "then": {"$ref": f"#/$defs/{event}"}} for event in ours
        ],
        "$defs": ours,
    }


def rows() -> list[Row]:
    """Every event, in order of their names."""
    found = {row for path in modules("embedmq_worker") for row in events(path, module_name("embedmq_worker", path))}
    return sorted(found, key=lambda row: (plain(row[0]), row))  # one event may be logged in several places


def plain(cell: str) -> str:
    """A cell without its quotes."""
    return cell.strip("`")


def field_names(row: Row) -> list[str]:
    """The fields of an event."""
    return [plain(name) for name in row[2].split(", ") if name]


def _event(event: str, named: list[list[str]]) -> Mapping[str, object]:
    """What is on the lines of one event: `named` has its fields at each place where it is logged."""
    every = sorted({name for names in named for name in names})
    return {
        "properties": {name: _type(kind) for name, kind in COMMON.items()}
        | {name: _type(field(event, name)) for name in every},
        "required": [name for name in every if all(name in names for names in named)],
        "additionalProperties": False,
    }


def _type(kind: Field) -> Mapping[str, object]:
    match kind.type:
        case "strings" | "integers":
            return {"type": "array", "items": {"type": kind.type.removesuffix("s")}, "description": kind.meaning}
        case "number":
            return {"type": ["number", "null"], "description": kind.meaning}
        case _:
            return {"type": kind.type, "description": kind.meaning}


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
