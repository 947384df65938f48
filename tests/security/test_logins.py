"""Every way to log in works, and whoever is not let in learns why, in one line without a secret."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import embedmq
import pytest
from aiokafka.abc import AbstractTokenProvider
from embedmq.cli.root import run
from embedmq_worker.configuration import load
from embedmq_worker.errors import ConfigInvalid, Unreachable
from embedmq_worker.metrics import Metrics
from embedmq_worker.world import connected

from tests.security.guarded import Guarded, password, token
from tests.security.rights import Right

WORKER = '[models.m]\ncheckpoint = "null:8"\n'
ANY = Right("User:worker", "Topic", "logins", "prefixed", "Write")
"""Something to be let in for."""
WRONG = "Wr0ngWr0ng"
Change = Callable[[Guarded, Path], dict[str, str]]
CLOSED = "the connection is closed"
REFUSALS: Mapping[str, tuple[Change, str]] = {
    "a wrong password": (
        lambda _, __: {"KAFKA__SASL_PASSWORD": WRONG},
        "the login is refused .*check user and password",
    ),
    "a mechanism that is not there": (
        lambda doors, _: {"KAFKA": doors.kafka_limited},
        "does not offer the sasl_mechanism: name one that it offers",
    ),
    "a login where nobody asks for one": (
        lambda doors, _: {"KAFKA": doors.kafka_plain, "KAFKA__TLS": "false"},
        "asks for no login: leave out sasl_mechanism",
    ),
    "a stranger's certificate": (
        lambda doors, _: {"KAFKA__CA_FILE": str(doors.authorities.stranger_ca)},
        "nobody whom we trust vouches for its certificate .*ca_file",
    ),
    "a certificate that has expired": (lambda doors, _: {"KAFKA": doors.kafka_outdated}, "its certificate has expired"),
    "another name than the certificate's": (
        lambda doors, _: {"KAFKA": doors.kafka.replace("127.0.0.1", "localhost")},
        "its certificate is not for 'localhost': use the name",
    ),
    "no TLS where there should be": (lambda _, __: {"KAFKA__TLS": "false"}, f"{CLOSED}: does this port want TLS"),
    "TLS where there is none": (lambda doors, _: {"KAFKA": doors.kafka_plain}, f"{CLOSED}: has this port TLS"),
    "no certificate where one is asked for": (
        lambda doors, _: {"KAFKA": doors.kafka_mutual},
        f"our certificate is refused|{CLOSED}: .*certificate",
    ),
    "a token that has expired": (
        lambda _, folder: _token(folder, token("worker", lives_s=-60.0)),
        "the login is refused: check the token",
    ),
    "no token": (lambda _, folder: _token(folder, None), "token cannot be read .No such file"),
    "a wrong password of Redis": (lambda _, __: {"REDIS__PASSWORD": WRONG}, "Redis .* the login is refused"),
    "a stranger's certificate of Redis": (
        lambda doors, _: {"REDIS__CA_FILE": str(doors.authorities.stranger_ca)},
        "Redis .* nobody whom we trust vouches",
    ),
    "another name of Redis than the certificate's": (
        lambda doors, _: {"REDIS": doors.redis.replace("127.0.0.1", "localhost")},
        "Redis .* its certificate is not for 'localhost'",
    ),
    "no TLS where Redis should have it": (
        lambda doors, _: {"REDIS": doors.redis.replace("rediss", "redis")},
        f"Redis .* {CLOSED}: does this port want TLS",
    ),
}


def _token(folder: Path, text: str | None) -> dict[str, str]:
    file = folder / "token"
    if text is not None:
        file.write_text(text + "\n")
    return {"KAFKA__SASL_MECHANISM": "OAUTHBEARER", "KAFKA__SASL_TOKEN_FILE": str(file)}


def _environment(doors: Guarded, changes: Mapping[str, str]) -> dict[str, str]:
    return doors.environment("worker") | {f"EMBEDMQ_{name}": value for name, value in changes.items()}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "certificate"])
async def test_each_way_to_log_in_lets_in(doors: Guarded, mechanism: str, tmp_path: Path) -> None:
    """A client that starts has talked to Kafka and Redis."""
    environment = doors.environment("worker", mechanism)
    if mechanism == "OAUTHBEARER":
        environment |= {f"EMBEDMQ_{name}": value for name, value in _token(tmp_path, token("worker")).items()}
    elif mechanism == "certificate":
        papers = doors.authorities.issue("worker")
        environment |= {"EMBEDMQ_KAFKA": doors.kafka_mutual, "EMBEDMQ_KAFKA__CERT_FILE": str(papers.cert)}
        environment |= {"EMBEDMQ_KAFKA__KEY_FILE": str(papers.key)}
        del environment["EMBEDMQ_KAFKA__SASL_MECHANISM"]
    await doors.rights.grant([ANY])
    async with embedmq.Client.from_env(environment) as mq:
        assert await mq.models() == []


async def test_a_program_gives_tokens_of_its_own(doors: Guarded) -> None:
    """For each connection its provider is asked."""
    asked = []

    class Tokens(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka ships no types
        async def token(self) -> str:
            asked.append(1)
            return token("worker")

    await doors.rights.grant([ANY])
    settings = {"kafka_tls": True, "kafka_ca_file": str(doors.authorities.ca), "kafka_sasl_mechanism": "OAUTHBEARER"}
    async with embedmq.Client(doors.kafka, **settings, kafka_token_provider=Tokens()):  # type: ignore[arg-type]  # a dict
        assert asked


@pytest.mark.parametrize("what", REFUSALS)
def test_a_command_that_is_not_let_in_says_why(
    doors: Guarded, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends with 3, one line, the remedy in it and no secret."""
    change, told = REFUSALS[what]
    asyncio.run(doors.rights.grant([ANY]))
    for name, value in _environment(doors, change(doors, tmp_path)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EMBEDMQ_CLIENT__CONNECT_TIMEOUT_S", "3")

    code = run(["embed", "m", "text"])

    line = capsys.readouterr().err
    assert code == 3, line
    assert line.count("\n") == 1
    _matches(told, line)


@pytest.mark.parametrize("what", REFUSALS)
async def test_a_worker_that_is_not_let_in_says_why(doors: Guarded, what: str, tmp_path: Path) -> None:
    """It ends at once where waiting helps nobody, else after `start_timeout_s`."""
    change, told = REFUSALS[what]
    limits = {"KAFKA__START_TIMEOUT_S": "0.5", "REDIS__START_TIMEOUT_S": "0.5"}
    file = tmp_path / "worker.toml"
    file.write_text(WORKER)
    config = load(file, _environment(doors, change(doors, tmp_path) | limits))

    with pytest.raises(Unreachable) as error:
        async with connected(config, Metrics()):
            pass
    assert error.value.exit_code == 3
    _matches(told, str(error.value))


def test_a_worker_ends_with_one_line_and_traces_have_no_secret(doors: Guarded, tmp_path: Path) -> None:
    """Also with --debug, which alone shows where it happened."""
    file = tmp_path / "worker.toml"
    file.write_text(WORKER)
    environment = {**os.environ, **_environment(doors, {"KAFKA__SASL_PASSWORD": WRONG})}
    for option in ("--json", "--debug"):
        command = [sys.executable, "-m", "embedmq", option, "worker", "--config", str(file)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 3, ended.stderr
        assert "the login is refused" in ended.stderr.splitlines()[-1]
        assert option == "--debug" or "Traceback" not in ended.stderr + ended.stdout
        assert WRONG not in ended.stderr + ended.stdout
        assert password("worker") not in ended.stderr + ended.stdout


async def test_a_login_without_its_password_is_a_wrong_configuration(doors: Guarded, tmp_path: Path) -> None:
    """Which says where passwords come from."""
    environment = doors.environment("worker")
    del environment["EMBEDMQ_KAFKA__SASL_PASSWORD"]
    file = tmp_path / "worker.toml"
    file.write_text(WORKER)
    with pytest.raises(ConfigInvalid, match="wants sasl_password: set EMBEDMQ_KAFKA__SASL_PASSWORD"):
        async with connected(load(file, environment), Metrics()):
            pass
    with pytest.raises(ValueError, match="EMBEDMQ_KAFKA__SASL_PASSWORD"):
        async with embedmq.Client.from_env(environment):
            pass


def _matches(told: str, line: str) -> None:
    assert re.search(told, line), line
    assert WRONG not in line
    assert password("worker") not in line
    assert "Traceback" not in line
