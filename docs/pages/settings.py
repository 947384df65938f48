"""What can be set, of what type, within which bounds, and by which variable?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from inspect import cleandoc

import msgspec
from embedmq.settings import OWN_SECTION, Setup
from embedmq_schemas.connection import SECRETS
from embedmq_schemas.environment import PREFIX, SHORT
from embedmq_worker.config import Config
from msgspec import Struct, inspect

from docs.pages.markdown import NOTE, table
from docs.pages.source import attribute_docs

HEAD = ("key", "type", "default", "meaning", "environment")
INTRODUCTION = """\
# Settings

A worker reads one TOML file, `embedmq worker --config FILE` (or `EMBEDMQ_CONFIG`), then the environment, then the
options `--kafka`, `--redis` and `--prefix`; the last one wins. Unknown keys, wrong types and values out of range
are refused, with key, value and rule, and exit code 2. `embedmq config check` does only that, `embedmq config show`
prints what results, with all defaults, `embedmq config schema` a JSON Schema for editors.

A list in the environment is separated by commas. Secrets come from the environment only; a file that holds one is
refused. In the name of a model's variable dashes are underscores.
"""
CLIENTS = """\
## Clients

`embedmq.Client(kafka, redis, **settings)` takes these by keyword, and those of `[kafka]` and `[redis]` that say how
to get in (from `bootstrap` or `url` on: TLS, SASL, ACL) as `kafka_KEY` and `redis_KEY`. `Client.from_env()` and the
command line read the same variables as workers do, and these:

"""


def page() -> str:
    """docs/settings.md."""
    parts = [INTRODUCTION, "\n## The top of the file\n\n", _section(Config, "", skip={*_sections(), *_named()})]
    for name, kind in _sections().items():
        parts += [f"\n## `[{name}]`\n\n{cleandoc(kind.__doc__ or '')}\n\n", _section(kind, name)]
    for name, kind in _named().items():
        parts += [f"\n## `[{name}.NAME]`\n\n{cleandoc(kind.__doc__ or '')}\n\n", _section(kind, f"{name}.NAME")]
    of_client = {"kafka", "redis", "token_provider", "prefix"}
    parts += ["\n" + CLIENTS, _section(Setup, OWN_SECTION, skip=of_client)]
    return NOTE + "".join(parts)


def _sections() -> dict[str, type[Struct]]:
    """The tables of the file that are structs."""
    kinds = {field.name: inspect.type_info(field.type) for field in msgspec.structs.fields(Config)}
    return {name: kind.cls for name, kind in kinds.items() if isinstance(kind, inspect.StructType)}


def _named() -> dict[str, type[Struct]]:
    """The tables of tables, whose names are free."""
    kinds = {field.name: inspect.type_info(field.type) for field in msgspec.structs.fields(Config)}
    found = {name: kind.value_type for name, kind in kinds.items() if isinstance(kind, inspect.DictType)}
    return {name: kind.cls for name, kind in found.items() if isinstance(kind, inspect.StructType)}


def _section(kind: type[Struct], name: str, skip: Iterable[str] = ()) -> str:
    return table(HEAD, _rows(kind, name, set(skip)))


def _rows(kind: type[Struct], section: str, skip: set[str]) -> Iterator[tuple[str, ...]]:
    docs = attribute_docs(kind)
    for field in msgspec.structs.fields(kind):
        if field.name not in skip:
            yield (
                f"`{field.name}`",
                "secret" if field.name in SECRETS else describe(inspect.type_info(field.type)),
                _default(field),
                docs[field.name],
                f"`{_variable(section, field.name)}`",
            )


def describe(kind: inspect.Type) -> str:
    """A type and its bounds, in words."""
    match kind:
        case inspect.IntType():
            return "integer" + _bounds(kind)
        case inspect.FloatType():
            return "number" + _bounds(kind)
        case inspect.StrType():
            return "text" if kind.pattern is None else f"text like `{kind.pattern}`"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return "one of " + ", ".join(f"`{value}`" for value in kind.values)
        case inspect.ListType():
            return f"list of {describe(kind.item_type)}"
        case inspect.UnionType():
            return " or ".join(describe(part) for part in kind.types if not isinstance(part, inspect.NoneType))
        case _:
            raise TypeError(f"settings.md has no words for {kind!r}")


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    low = f" > {kind.gt:_}" if kind.gt is not None else f" ≥ {kind.ge:_}" if kind.ge is not None else ""
    high = f" < {kind.lt:_}" if kind.lt is not None else f" ≤ {kind.le:_}" if kind.le is not None else ""
    return ",".join(filter(None, (low, high)))


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "*required*"
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if default is None:
        return "none"
    number = isinstance(default, int | float) and not isinstance(default, bool)
    return f"`{default:_}`" if number else f"`{json.dumps(default)}`"


def _variable(section: str, key: str) -> str:
    short = {path: name for name, path in SHORT.items()}.get((section, key))
    return short or PREFIX + "__".join([*filter(None, section.upper().split(".")), key.upper()])
