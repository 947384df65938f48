"""How do Kafka, Redis and workers start together and end together?"""

from __future__ import annotations

import select
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from embedmq_local.data import Data
from embedmq_local.errors import ConfigurationError, PortTaken, ProcessError, StackError
from embedmq_local.jars import cache_folder, kafka_classpath
from embedmq_local.java import find_java
from embedmq_local.kafka import FORMAT_TIMEOUT_S, Broker, Jvm
from embedmq_local.process import Process
from embedmq_local.progress import Progress, silent
from embedmq_local.redis_server import RedisServer, find_redis
from embedmq_local.server import Server, stop_all
from embedmq_local.worker import DEFAULT_CONFIG, Worker

START_ATTEMPTS = 3  # when another program takes a port first
CLUSTER_SIZES = (1, 3)
ENDED_TIMEOUT_S = 1.0  # between a guard's last word and its exit code


@dataclass(frozen=True)
class Endpoints:
    """How to reach a running stack, and its processes."""

    kafka: str  # "127.0.0.1:PORT[,…]"
    redis: str  # "redis://127.0.0.1:PORT/0"
    metrics: tuple[str, ...]  # "127.0.0.1:PORT" of each worker
    kafka_pids: tuple[int, ...]
    redis_pid: int
    worker_pids: tuple[int, ...]


class Stack:
    """Real Kafka and Redis, and workers on demand, as processes that end with this one, whatever ends it.

        with Stack() as stack:
            worker = stack.start_worker()
            worker.wait_ready()
            ...  # stack.kafka, stack.redis

    With `data` the folder and what Kafka and Redis stored in it stay; without, everything is temporary. Entering raises
    `StackError`; after a `ProcessError` the logs stay where it says.
    """

    def __init__(
        self,
        data: Path | None = None,
        brokers: int = 1,
        progress: Progress = silent,
        fronts: Sequence[str] = (),
    ) -> None:
        """`fronts`: addresses of proxies, one a broker, which hand out each other instead of the brokers; where each of
        them is to connect to is that broker's `behind`.
        """
        if brokers not in CLUSTER_SIZES:
            raise ConfigurationError(f"{brokers} brokers: a cluster here has {' or '.join(map(str, CLUSTER_SIZES))}")
        self.brokers: list[Broker] = []
        self.workers: list[Worker] = []
        self._redis: RedisServer | None = None
        self._size = brokers
        self._folder = data
        self._progress = progress
        self._fronts: Sequence[str | None] = fronts or [None] * brokers

    def __enter__(self) -> Self:
        redis, jvm = find_redis(), Jvm(find_java(), kafka_classpath(cache_folder(), progress=self._progress))
        self._data = Data(self._folder, self._size)
        try:
            self._launch(redis, jvm)
        except BaseException as error:
            self._close(keep_logs=isinstance(error, ProcessError))
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(keep_logs=isinstance(error, ProcessError))

    @property
    def kafka(self) -> str:
        """Bootstrap addresses, "127.0.0.1:PORT[,…]"."""
        return ",".join(broker.address for broker in self.brokers)

    @property
    def redis(self) -> str:
        """As a URL, "redis://127.0.0.1:PORT/0"."""
        return self.redis_server.url

    @property
    def redis_server(self) -> RedisServer:
        if self._redis is None:
            raise StackError("the stack has not been started: use it in a `with` statement")
        return self._redis

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints(
            kafka=self.kafka,
            redis=self.redis,
            metrics=tuple(worker.http for worker in self.workers),
            kafka_pids=tuple(broker.pid for broker in self.brokers),
            redis_pid=self.redis_server.pid,
            worker_pids=tuple(worker.pid for worker in self.workers),
        )

    def start_worker(
        self,
        config: Path | None = None,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
    ) -> Worker:
        """Start a worker, without waiting until it is ready.

        Without `config` it serves `minilm`. `env` is added to this process's environment; `command` replaces the worker
        program, which has its addresses in EMBEDMQ_KAFKA, EMBEDMQ_REDIS and EMBEDMQ_WORKER__HTTP.
        """
        if config is None:
            config = self._data.folder / "worker.toml"
            config.write_text(DEFAULT_CONFIG)
        worker = Worker(
            f"worker-{len(self.workers) + 1}",
            self._data.folder,
            self._data.scratch,
            config=config,
            environment={"EMBEDMQ_KAFKA": self.kafka, "EMBEDMQ_REDIS": self.redis, **(env or {})},
            command=command,
        )
        self.workers.append(worker)
        worker.spawn()
        return worker

    def wait(self) -> NoReturn:
        """Block until one of the processes ends; `ProcessError` says which."""
        processes = {process.output: process for server in self._servers() if (process := server.process)}
        ended, _, _ = select.select(list(processes), [], [])
        process = processes[ended[0]]
        raise process.failure(f"ended with exit code {process.wait(ENDED_TIMEOUT_S)}")

    def _launch(self, redis: str, jvm: Jvm) -> None:
        for attempt in range(START_ATTEMPTS):
            try:
                self._start(redis, jvm)
            except PortTaken:
                if attempt + 1 == START_ATTEMPTS:
                    raise
                stop_all(self._servers(), signal.SIGKILL)
                self._give_back_ports()
            else:
                return

    def _start(self, redis: str, jvm: Jvm) -> None:
        folder, scratch = self._data.folder, self._data.scratch
        self._progress("starting Redis and Kafka")
        self._redis = RedisServer(redis, folder, scratch, persistent=self._data.persistent)
        self._redis.spawn()
        self.brokers = [
            Broker(1 + n, jvm, self._data.cluster, folder, scratch, front) for n, front in enumerate(self._fronts)
        ]
        for broker in self.brokers:
            broker.configure(self.brokers)
        _format(self.brokers)
        for broker in self.brokers:
            broker.spawn()
        for server in self._servers():
            server.wait_ready()

    def _servers(self) -> list[Server]:
        return [*self.workers, *self.brokers, *([self._redis] if self._redis else [])]

    def _give_back_ports(self) -> None:
        for server in self._servers():
            server.close()

    def _close(self, *, keep_logs: bool) -> None:
        """Workers first, so that they can finish what they have begun, then Kafka and Redis.

        Brokers whose data goes anyway are killed: a whole cluster needs 5 s to give up its quorum in good order.
        """
        try:
            stop_all(self.workers)
            stop_all(self.brokers, signal.SIGTERM if self._data.persistent else signal.SIGKILL)
            stop_all([self._redis] if self._redis else [])
        finally:
            self._give_back_ports()
            self._data.close(keep_logs=keep_logs)


def _format(brokers: Sequence[Broker]) -> None:
    """Prepare the brokers' data folders, all at once."""
    running: list[Process] = []
    try:
        for broker in brokers:
            running += filter(None, [broker.format()])
        for process in running:
            if process.reap(FORMAT_TIMEOUT_S) != 0:
                raise process.failure("failed")
    finally:
        for process in running:
            process.stop(signal.SIGKILL, FORMAT_TIMEOUT_S)
