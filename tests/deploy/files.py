"""What do the deployment files say?"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from docs.pages.source import ROOT

PAGE: Final = (ROOT / "docs" / "deploy.md").read_text("utf-8")
DEPLOY: Final = ROOT / "deploy"
CHART: Final = DEPLOY / "helm" / "embedmq"
CASES: Final = [None, *sorted((CHART / "ci").glob("*.yaml"))]
"""Values that the chart is rendered with: its own, and those of ci/."""


def read(path: Path) -> dict[str, Any]:
    """A file of YAML or JSON with one document."""
    document: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return document


def documents(text: str) -> list[dict[str, Any]]:
    """The objects in what helm printed."""
    return [document for document in yaml.safe_load_all(text) if document]


def commands() -> list[list[str]]:
    """The commands of docs/deploy.md, as a shell would divide them."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [shlex.split(line[2:]) for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def leaves(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of everything that is not a table with something in it."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key)


@dataclass(frozen=True)
class Instruction:
    """One of a Dockerfile, its continued lines joined; `stage` is the name of the part that it is in."""

    stage: str
    word: str
    rest: str

    @property
    def words(self) -> list[str]:
        """As a shell would divide it."""
        return shlex.split(self.rest)

    @property
    def form(self) -> list[str]:
        """The command of an instruction in exec form."""
        command: list[str] = json.loads(self.rest[self.rest.index("[") :])
        return command


def dockerfile() -> list[Instruction]:
    """The instructions of deploy/Dockerfile in their order."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#")]
    stage, found = "", []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, rest = line.split(maxsplit=1)
            stage = rest.rpartition(" AS ")[2] if word == "FROM" else stage
            found.append(Instruction(stage, word, re.sub(r"--mount=\S+ ", "", rest).strip()))
    return found


def variables(stage: str, word: str) -> dict[str, str]:
    """What ARG or ENV say in one part of the Dockerfile."""
    said = [part for step in dockerfile() if (step.stage, step.word) == (stage, word) for part in step.words]
    return {name: value for name, _, value in (part.partition("=") for part in said)}
