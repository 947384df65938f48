"""`embedmq doctor` behind guarded doors: it says who lacks what, and whoever may do all that the page says is well."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from embedmq.cli.root import run
from redis import Redis

from tests.security.company import Company, company_of
from tests.security.guarded import Guarded, password
from tests.security.rights import Right
from tests.security.test_logins import REFUSALS, WRONG

Told = Mapping[str, Mapping[str, object]]
Doctor = Callable[..., tuple[int, Told]]
SAYS = {"password": "login is refused", "mechanism": "does not offer", "stranger": "vouches", "expired": "has expired"}


@pytest.fixture(scope="module")
def company(doors: Guarded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """With topics that the operator made, and the rights of docs/security.md."""
    with company_of(doors, tmp_path_factory.mktemp("company")) as company:
        company.command("operator", "topics", "create", "minilm")
        see = Right("User:operator", "Topic", f"{company.prefix}.", "prefixed", "Describe")
        asyncio.run(doors.rights.grant([see]))  # else it sees no topic where it may not write
        yield company


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Run it with an environment; its exit code, and the checks by name."""

    def ask(environment: Mapping[str, str], *words: str) -> tuple[int, Told]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        code = run(["doctor", "--json", *words])
        printed = capsys.readouterr()
        for secret in (WRONG, *(password(user) for user in ("worker", "producer", "operator"))):
            assert secret not in printed.out + printed.err
        return code, {check["name"]: check for check in map(json.loads, printed.out.splitlines())}

    return ask


@pytest.mark.parametrize(
    "what",
    ["a wrong password", "a mechanism that is not there", "a stranger's certificate", "a certificate that has expired",
     "no TLS where there should be", "a wrong password of Redis", "a stranger's certificate of Redis"],
)  # fmt: skip
def test_who_is_not_let_in_learns_why(company: Company, doctor: Doctor, what: str, tmp_path: Path) -> None:
    """With exit code 3, the remedy, and no secret."""
    change, _ = REFUSALS[what]
    changes = {f"EMBEDMQ_{name}": value for name, value in change(company.doors, tmp_path).items()}
    code, told = doctor(company.environment("operator") | changes)
    name = "redis" if "Redis" in what else "kafka"
    assert code == 3
    assert told[name]["ok"] is False
    assert told[name]["remedy"]
    expected = next((said for word, said in SAYS.items() if word in what), "closed")
    assert expected in str(told[name]["found"])


def test_with_the_rights_of_the_page_nothing_is_bad(company: Company, doctor: Doctor) -> None:
    """What an operator may see is looked at, what a producer or a worker may not see is skipped with a word."""
    code, told = doctor(company.environment("operator"))
    assert (code, [name for name, check in told.items() if check["ok"] is False]) == (0, [])
    assert told["topics"]["ok"]
    assert told["clock"]["ok"]
    code, told = doctor(company.environment("producer"))
    assert (code, [name for name, check in told.items() if check["ok"] is False]) == (0, [])
    assert "lacks DescribeConfigs" in str(told["topics"]["found"])
    assert "lacks +info" in str(told["redis eviction"]["found"])
    assert told["redis rights"]["ok"]
    code, told = doctor(company.environment("worker"), "--config", str(company.config()))
    assert told["worker's kafka rights"]["ok"]
    assert told["worker's redis rights"]["ok"]
    assert (code, [name for name, check in told.items() if check["ok"] is False]) == (0, [])


@pytest.mark.parametrize(
    ("user", "resource", "name", "operation"),
    [("worker", "Topic", "{prefix}.retry.", "Write"), ("worker", "Group", "{prefix}.", "Read"),
     ("operator", "Topic", "{prefix}.", "Write"), ("operator", "Topic", "{prefix}.", "DescribeConfigs")],
)  # fmt: skip
def test_a_right_in_kafka_that_is_lacking_is_named(
    company: Company, doctor: Doctor, user: str, resource: str, name: str, operation: str
) -> None:
    """The operation, on what, for whom."""
    right = Right(f"User:{user}", resource, name.format(prefix=company.prefix), "prefixed", operation)
    words = ("--config", str(company.config())) if user == "worker" else ()
    asyncio.run(company.doors.rights.revoke([right]))
    try:
        code, told = doctor(company.environment(user), *words)
    finally:
        asyncio.run(company.doors.rights.grant([right]))
    check = told["worker's kafka rights" if words else "topics" if "Configs" in operation else "kafka rights"]
    assert f"lacks {operation} on {resource.lower()} {right.name}" in str(check["found"])
    assert "ACL" in str(check["remedy"])
    assert code == (0 if "Configs" in operation else 3)


def test_a_command_and_a_key_of_redis_that_are_lacking_are_named(company: Company, doctor: Doctor) -> None:
    """As an ACL says them, for a producer and for a worker; nothing is written on the way."""
    with Redis.from_url(company.doors.redis_plain) as redis:
        redis.execute_command("ACL", "SETUSER", "producer", "-xread")
        redis.execute_command("ACL", "SETUSER", "worker", "-hset", "resetkeys", f"~{company.prefix}:*")
        try:
            keys = redis.keys()
            producer = doctor(company.environment("producer"))
            worker = doctor(company.environment("worker"), "--config", str(company.config()))
            assert redis.keys() == keys
        finally:
            redis.execute_command("ACL", "SETUSER", "producer", "+xread")
            redis.execute_command("ACL", "SETUSER", "worker", "+hset", f"~{{{company.prefix}:result:*")
    assert producer[0] == worker[0] == 3
    assert str(producer[1]["redis rights"]["found"]).endswith("lacks +xread")
    assert str(worker[1]["worker's redis rights"]["found"]).endswith(f"lacks ~{{{company.prefix}:result:* +hset")
