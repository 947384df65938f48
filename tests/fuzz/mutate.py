"""How does a message become another that is likely to be read? By its fields; a fuzzer's own way is by bytes."""

from __future__ import annotations

import json
import random
from typing import Any, Final

import msgspec

from tests.fuzz.record import SEPARATOR
from tests.fuzz.seeds import FIELDS

MOST_CHANGES: Final = 4
ODD: Final[tuple[object, ...]] = (
    *(None, True, 0, 1, -1, 7, 2**31, 2**53, 2**63 - 1, -(2**63), 0.5, -0.0, 1e308, "", "a", "x" * 300, "\x00", "🐞"),
    *(
        "minilm",
        "embed",
        "score",
        "topic",
        "stream",
        "embedded",
        "failed",
        "float32",
        "ubinary",
        "completed",
        "1",
        "id 1",
    ),
    *([], ["a"], [[1, 2]], [["a"]], [0.5, None], [1, 1], [0, 0], [-1, 2], [[0.5], [None]], {}, {"k": "v"}, {"k": 1}),
    *(
        {"type": "topic", "topic": "t"},
        {"type": "stream", "client": "c"},
        {"type": "failed", "id": "x"},
        b"",
        b"\0" * 8,
    ),
    {"dtype": "float32", "shape": [1, 2], "data": [[0.5, 1e39]]},
)


def mutate(data: bytes, seed: int) -> bytes:
    """Change a few fields of the message in `data` (all after the last separator), in either codec; what is no message
    comes back as it is.
    """
    chance = random.Random(seed)
    head, separator, value = data.rpartition(SEPARATOR)
    try:
        message = json.loads(value) if value[:1] == b"{" else msgspec.msgpack.decode(value)
        for _ in range(chance.randint(1, MOST_CHANGES)):
            message = _change(message, chance)
        as_json = (value[:1] == b"{") != (chance.random() < 0.1)
        changed = msgspec.json.encode(message) if as_json else msgspec.msgpack.encode(message)
    except (msgspec.MsgspecError, ValueError, RecursionError, TypeError, OverflowError):
        return data
    return head + separator + changed


def _change(node: Any, chance: random.Random) -> Any:
    """One node of the tree becomes another: mostly deep inside, sometimes here."""
    match node:
        case dict() if node and chance.random() < 0.5:
            name = chance.choice(list(node))
            return {**node, name: _change(node[name], chance)}
        case dict():
            name = chance.choice([*node, chance.choice(FIELDS)])
            changed = {**node, name: _odd(chance, node.get(name))}
            return changed if chance.random() < 0.8 else {key: node[key] for key in node if key != name}
        case list() if node and chance.random() < 0.7:
            n = chance.randrange(len(node))
            return [*node[:n], _change(node[n], chance), *node[n + 1 :]]
        case list():
            return chance.choice([node + node, node[1:], [*node, chance.choice(ODD)], list(ODD)])
        case str() | bytes() if chance.random() < 0.3:
            return node * 2
        case _:
            return _odd(chance, node)


def _odd(chance: random.Random, before: object) -> object:
    """Something to put in a field's place, half of the time of the same type."""
    alike = [odd for odd in ODD if type(odd) is type(before)]
    return chance.choice(alike if alike and chance.random() < 0.5 else ODD)
