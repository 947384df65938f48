"""docs/tutorial.md is true: it is typed along, from `embedmq up` to Ctrl-C; and so are the commands of the README."""

from __future__ import annotations

import os
import platform
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from msgspec import Struct

from docs.pages.source import ROOT
from tests.docs.walk import Walk, sections, without_what_varies

PAGE = "tutorial.md"
INSTALL, START, *TYPED = [heading for heading, blocks in sections(PAGE).items() if blocks]
INTERRUPTED = 130


class Terminal(Struct, frozen=True):
    """The first terminal of the reader, what it printed, and what the second one has in its environment."""

    process: subprocess.Popen[str]
    printed: str
    environment: Mapping[str, str]


@pytest.fixture(scope="module")
def terminal() -> Iterator[Terminal]:
    """`embedmq up` in a session of its own, which has printed as much as the page shows."""
    command, shown = sections(PAGE)[START]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    process = subprocess.Popen(
        shlex.split(command.text.removeprefix("$ ")),
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    printed = "".join(process.stdout.readline() for _ in shown.text.splitlines())
    if not printed and "CI" not in os.environ:
        pytest.skip(f"nothing could be started here: `{command.text.strip()}` says why")
    exported = dict(re.findall(r"(EMBEDMQ_\w+)=(\S+)", printed))
    yield Terminal(process, printed, environment | exported)
    if process.poll() is None:
        process.terminate()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="module")
def walk(terminal: Terminal, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """The page from the second terminal on, in an empty folder."""
    left = {heading: sections(PAGE)[heading] for heading in TYPED}
    return Walk(left, tmp_path_factory.mktemp("tutorial"), terminal.environment, lines)


def lines(printed: str) -> list[str]:
    """What every run prints, on every machine and Python: no figures, no names of its own, and of hits the best."""
    named = re.sub(r"\b[0-9a-f]{12}\b", "WORKER", printed.replace(platform.node(), "laptop"))
    best, found = 0.0, []
    for line in named.splitlines():
        hit = re.fullmatch(r"(\d\.\d+)  \S+", line)
        further, best = hit is not None and float(hit[1]) <= best, float(hit[1]) if hit else 0.0
        found.append("a further hit" if further else line)
    bare = [re.sub(r"-?\d[\d.,]*[KMG%]?", "0", line) for line in without_what_varies("\n".join(found))]
    return [re.sub(r"(?<!\S)(-|0/s)(?!\S)", "0", line).strip() for line in bare]


def test_what_it_starts_says_how_it_is_reached(terminal: Terminal) -> None:
    """As the page shows it, with ports of its own."""
    shown = sections(PAGE)[START][1].text
    assert re.fullmatch(re.escape(shown).replace("…", r"\d+"), terminal.printed)
    assert {"EMBEDMQ_KAFKA", "EMBEDMQ_REDIS"} <= set(terminal.environment)


@pytest.mark.parametrize("section", TYPED)
def test_a_step_does_as_it_says(walk: Walk, section: str) -> None:
    """Its files and commands as they stand, and what they print but for figures; steps build on each other."""
    walk.to(section)


def test_the_commands_of_the_readme_run_beside_it(terminal: Terminal, tmp_path: Path) -> None:
    """Those for a shell, as they stand; none fails where all is well."""
    readme = (ROOT / "README.md").read_text("utf-8")
    (tmp_path / "worker.toml").write_text(*re.findall(r"^```toml\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL))
    blocks = re.findall(r"^```console\n(\$ (?:echo|embedmq top) .*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for command in re.findall(r"^\$ (.*)$", "".join(blocks), re.MULTILINE):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", re.sub(r"embedmq top\b", "embedmq top --once --json", command)],
            cwd=tmp_path,
            env=terminal.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def test_ctrl_c_ends_it_all(terminal: Terminal) -> None:
    """The last step: the whole session is interrupted, as a terminal does it, and nothing of it is left."""
    os.killpg(terminal.process.pid, signal.SIGINT)
    assert terminal.process.wait(60) == INTERRUPTED
    with pytest.raises(ProcessLookupError):
        os.killpg(terminal.process.pid, 0)
