"""The command line itself: help, versions, completion, commands of other packages."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint

import click
import pytest
from click.testing import CliRunner
from embedmq.cli import commands
from embedmq.cli.exits import exit_code, say
from embedmq.cli.root import make_root, run

CLIENTS = {"aiokafka", "redis", "numpy", "torch", "transformers"}


def run_help(*arguments: str) -> str:
    program = (
        f"import sys; from embedmq.cli.root import run; run({list(arguments)!r}); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert not CLIENTS & {name.split(".")[0] for name in done.stderr.split()}
    return done.stdout


def test_help_names_every_command_without_importing_a_client() -> None:
    """Also those of the other packages."""
    shown = run_help("--help")

    for name in (*commands.OWN, "worker", "config", "up", "demo"):
        assert f"\n  {name} " in shown


def test_help_is_fast() -> None:
    """Under 300 ms on a machine that is not busy, measured in CPU time, the best of three; on one that is slow, no more
    than a few times what it takes Python to import its own parts of a client."""

    def cpu_s(*arguments: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, timeout=60, check=True)
        after = os.times()
        return after.children_user - before.children_user + after.children_system - before.children_system

    taken_s = min(cpu_s("-m", "embedmq", "--help") for _ in range(3))
    assert taken_s < max(0.3, 4 * cpu_s("-c", "import asyncio, email, http.client, json, logging, ssl, urllib.request"))


@pytest.mark.parametrize("name", commands.names())
def test_every_command_shows_an_example(name: str) -> None:
    """`--help` teaches; the list of commands shows the same first sentence."""
    command = commands.load(name)
    assert command is not None

    def check(command: click.Command) -> None:
        assert "embedmq" in (command.help or "").partition("Example:")[2], command.name
        for below in command.commands.values() if isinstance(command, click.Group) else ():
            check(below)

    if name in commands.OWN:
        check(command)
    assert (command.help or "").startswith(commands.summary(name))
    assert commands.summary(name)


def test_the_global_options_stand_before_and_after() -> None:
    """Every command takes them, however deep."""
    runner = CliRunner()
    for path in (["embed"], ["topics", "show"], ["config", "check"], ["worker"]):
        shown = runner.invoke(make_root(), [*path, "--help"], prog_name="embedmq").output
        for option in ("--kafka", "--redis", "--prefix", "--config", "--json", "--debug", "--version"):
            assert option in shown, (path, option)


@pytest.mark.parametrize("group", [[], ["dead"], ["topics"], ["config"], ["schema"]], ids=" ".join)
def test_a_group_without_a_command_shows_its_help(group: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It is what a new user types first: the help as it is, line by line, and the exit code of a wrong command line."""
    assert run(group) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Usage: embedmq")
    assert "\nCommands:\n" in shown


def test_the_version_is_the_distribution_s(capsys: pytest.CaptureFixture[str]) -> None:
    """Before and after a command."""
    for arguments in (["--version"], ["embed", "--version"]):
        assert run(arguments) == 0
        assert capsys.readouterr().out.startswith("embedmq 0.")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_click_answers(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And what the script asks for is answered."""
    assert run(["completion", shell]) == 0
    assert "_EMBEDMQ_COMPLETE" in capsys.readouterr().out

    asked = {"COMP_WORDS": "embedmq to", "COMP_CWORD": "1" if shell != "fish" else "to"}
    done = subprocess.run(
        [sys.executable, "-c", "from embedmq.cli.root import main; main()"],
        env={**os.environ, **asked, "_EMBEDMQ_COMPLETE": f"{shell}_complete"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "topics" in done.stdout


def test_a_command_without_its_extra_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever its arguments are."""
    entry = EntryPoint("worker", "embedmq_worker.not_there:worker", commands.GROUP)
    monkeypatch.setattr(commands, "_others", lambda: {"worker": entry})

    assert run(["worker", "--config", "x.toml", "--workers", "3"]) == 2
    assert "pip install 'embedmq[worker]'" in capsys.readouterr().err


def test_an_unexpected_error_is_one_line_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback comes with --debug."""
    error = RuntimeError("several\nlines")

    say(error)

    assert exit_code(error) == 1
    assert capsys.readouterr().err == (
        "embedmq: error: unexpected RuntimeError: several lines: run it again with --debug\n"
    )
