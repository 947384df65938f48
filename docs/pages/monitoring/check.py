"""Does Prometheus itself take the rules, and has a real one that scrapes a real worker data for every panel?

`python -m docs.pages.monitoring.check`, with Debian's package `prometheus` installed (or PROMETHEUS naming the folder
that has `prometheus` and `promtool`). Takes about a minute; exits 1 and says what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import embedmq
from aiokafka import AIOKafkaProducer
from embedmq_local.port import HOST
from embedmq_local.server import Server
from embedmq_local.stack import Stack

from docs.pages.monitoring.dashboard import live
from docs.pages.monitoring.form import Panel
from docs.pages.monitoring.page import FOLDER, SCALE
from docs.pages.monitoring.questions import QUESTIONS

LOAD_S: Final = 20.0
"""How long the worker has something to do."""
WAIT_S: Final = 30.0
"""How long, after that, every panel may take to have data."""
TIMEOUT_S: Final = 10.0
INSTALL: Final = "install Debian's package `prometheus`, or name the folder of both in PROMETHEUS"
MODELS: Final = """
prefix = "monitored"
[worker]
retry_delays_s = [1]
[models.first]
checkpoint = "null:8?batch_ms=2"
pinned = true
[models.second]
checkpoint = "null:8"
"""
VARIABLES: Final = {"$instance": ".*", "$model": ".*", "$lane": ".*", "$__rate_interval": "30s"}


class Prometheus(Server):
    """One that scrapes every second what `prometheus.yaml` says, less where."""

    def __init__(self, program: str, folder: Path, target: str) -> None:
        super().__init__("prometheus", folder, None)
        self._program, self._folder = program, folder
        config = (FOLDER / "prometheus.yaml").read_text("utf-8")
        config = config.replace("127.0.0.1:9464", target).replace("15s", "1s")
        (folder / "prometheus.yaml").write_text(config, "utf-8")
        shutil.copy(FOLDER / "alerts.yaml", folder)
        self.log.parent.mkdir()

    def command(self) -> Sequence[str]:
        storage = f"--storage.tsdb.path={self._folder / 'data'}"
        config = f"--config.file={self._folder / 'prometheus.yaml'}"
        return (self._program, config, storage, f"--web.listen-address={self.address}")

    def is_ready(self) -> bool:
        try:
            return self._get("/-/ready")[0] == http.HTTPStatus.OK
        except OSError:
            return False

    def ask(self, query: str) -> list[float]:
        """The numbers that a query has now; raises ValueError when Prometheus does not take it."""
        status, body = self._get(f"/api/v1/query?query={quote(query)}")
        if status != http.HTTPStatus.OK:
            raise ValueError(f"{query}: {body}")
        found: Any = json.loads(body)["data"]["result"]
        return [value for series in found if not math.isnan(value := float(series["value"][1]))]

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(HOST, self.port.number, timeout=TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


def program(name: str) -> str:
    """Where it is; raises FileNotFoundError where it is not."""
    found = shutil.which(name, path=os.environ.get("PROMETHEUS") or None)
    if found is None:
        raise FileNotFoundError(f"there is no {name}: {INSTALL}")
    return found


def check_rules() -> None:
    """Raises CalledProcessError, when promtool has said what is wrong."""
    promtool = program("promtool")
    for words in (("check", "config", "prometheus.yaml"), ("test", "rules", "alerts_test.yaml")):
        subprocess.run([promtool, *words], cwd=FOLDER, check=True)


def check_panels() -> Iterator[str]:
    """The titles of the panels without data, and the queries that Prometheus does not take."""
    with Stack() as stack, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "worker.toml").write_text(MODELS, "utf-8")
        worker = stack.start_worker(folder / "worker.toml")
        worker.wait_ready()
        prometheus = Prometheus(program("prometheus"), folder, worker.http)
        prometheus.start()
        try:
            asyncio.run(_load(stack))
            yield from _without_data(prometheus)
        finally:
            prometheus.stop()
            prometheus.close()


def _without_data(prometheus: Prometheus) -> Iterator[str]:
    end_s = time.monotonic() + WAIT_S
    panels = [panel for question in QUESTIONS for panel in question.panels]
    while (empty := [panel for panel in panels if not _has_data(prometheus, panel)]) and time.monotonic() < end_s:
        panels = empty
        time.sleep(1)
    shown = sum(len(question.panels) for question in QUESTIONS) - len(empty)
    print(f"{shown} panels have data; none, as is well: {', '.join(panel.title for panel in empty if panel.quiet)}")
    yield from (panel.title for panel in empty if not panel.quiet)
    for query in (*SCALE.values(), *(alert.expr for question in QUESTIONS for alert in question.alerts)):
        prometheus.ask(query)
    yield from (f"nothing for {query}" for query in SCALE.values() if not prometheus.ask(query))


def _has_data(prometheus: Prometheus, panel: Panel) -> bool:
    queries = [live(query) for query in panel.queries.values()]
    for variable, value in VARIABLES.items():
        queries = [query.replace(variable, value) for query in queries]
    return any(prometheus.ask(query) for query in queries)


async def _load(stack: Stack) -> None:
    """Both models, both lanes, what fails, and what cannot be read."""
    end_s = time.monotonic() + LOAD_S
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka)
    async with embedmq.Client(stack.kafka, stack.redis, prefix="monitored") as client:
        await producer.start()
        try:
            while time.monotonic() < end_s:
                texts = [f"text {number}" for number in range(50)]
                await asyncio.gather(
                    client.embed("first", texts),
                    client.embed("second", texts),
                    client.embed("first", texts, lane="bulk"),
                )
                with contextlib.suppress(embedmq.EmbedMQError):
                    await client.embed("first", texts, outputs=["sparse"])
                await producer.send_and_wait("monitored.first.bulk", b"{")
        finally:
            await producer.stop()


def main() -> int:
    """Returns the exit code."""
    try:
        check_rules()
        wrong = list(check_panels())
    except (FileNotFoundError, ValueError, subprocess.CalledProcessError) as error:
        wrong = [str(error)]
    for what in wrong:
        print(f"monitoring: no data, or an error: {what}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
