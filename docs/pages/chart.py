"""Which values does the Helm chart take, and what is each for?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

import msgspec
from embedmq_schemas.connection import SECRETS
from embedmq_worker.config import Config

from docs.pages.chart_values import Keyed, Values
from docs.pages.markdown import NOTE, table
from docs.pages.source import ROOT

VALUES: Final = ROOT / "deploy" / "helm" / "embedmq" / "values.yaml"
INTRODUCTION = """\
# Values of the Helm chart

`helm install embedmq deploy/helm/embedmq --values FILE`: what FILE may say. How to go about it is in
[deploy.md](deploy.md), the settings that `config` and `pools.NAME.config` take are in [settings.md](settings.md). A
value that is unknown, of the wrong type or out of range is refused before anything is installed. `pools.NAME` takes
`models` and everything that is listed under `poolDefaults`.

"""
_LINE: Final = re.compile(r"^( *)([A-Za-z]\w*):(?: +(\S.*))?$")


def schema() -> Keyed:
    """values.schema.json: the worker's settings are checked as the worker would, and secrets have no place in it."""
    (reference, _), definitions = msgspec.json.schema_components([Values, Config], schema_hook=_anything)
    definitions["Settings"] = definitions.pop("Config")
    taken = {"Settings": {"models"}, "Kafka": {"bootstrap", *SECRETS}, "Redis": {"url", *SECRETS}}
    for name, keys in taken.items():
        for key in keys:
            definitions[name]["properties"].pop(key, None)
    text = json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **reference, "$defs": definitions})
    return msgspec.convert(_bare(json.loads(text.replace("#/components/schemas/", "#/$defs/"))), Keyed)


def _anything(_: type) -> Keyed:
    return {"$comment": "as Kubernetes has it"}


def _bare(node: object) -> object:
    """Without defaults, which values.yaml has, and without titles."""
    if isinstance(node, list):
        return [_bare(part) for part in node]
    if not isinstance(node, dict):
        return node
    return {key: _bare(value) for key, value in node.items() if key not in {"default", "title"}}


def page() -> str:
    """docs/chart.md."""
    rows = ((f"`{key}`", f"`{default}`" if default else "", meaning) for key, default, meaning in listed())
    return NOTE + INTRODUCTION + table(("value", "default", "meaning"), rows)


def listed() -> Iterator[tuple[str, str, str]]:
    """Each commented value of values.yaml: its path, its default where that is on one line, its comment."""
    above: list[str] = []
    comment: list[str] = []
    for line in VALUES.read_text("utf-8").splitlines():
        if line.strip().startswith("# "):
            comment.append(line.strip()[2:])
        elif found := _LINE.match(line):
            indent, key, default = found.groups(default="")
            above = [*above[: len(indent) // 2], key]
            if comment:
                yield ".".join(above), default, " ".join(comment)
            comment = []
        else:
            comment = []
