"""Why does no answer come, and how long is that borne?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmq.bulk.errors import Unserved

if TYPE_CHECKING:
    from embedmq.client import Client

QUIET_S = 10.0
"""After how long without any answer somebody looks who serves the model."""


class Silence:
    """What is said when no answers come: a fleet that is busy is waited for, one that is not there for `patience_s`."""

    def __init__(self, model: str, patience_s: float) -> None:
        self._model = model
        self._patience_s = patience_s
        self._since_s: float | None = None
        self.waiting_for = ""

    def heard(self) -> None:
        """Answers come, or none is expected."""
        self._since_s, self.waiting_for = None, ""

    def busy(self, why: str) -> None:
        """Workers serve the model, and are slow."""
        self._since_s, self.waiting_for = None, why

    def alone(self, now_s: float) -> None:
        """No worker serves the model; raises Unserved when that has lasted too long."""
        self._since_s = now_s if self._since_s is None else self._since_s
        self.waiting_for = f"no worker serves {self._model} now: start one (embedmq models shows who serves what)"
        if now_s - self._since_s >= self._patience_s:
            raise Unserved(self.waiting_for)


async def workers_of(client: Client, model: str) -> int:
    """How many workers say that they have a model; raises Unavailable."""
    return sum(len(served.workers) for served in await client.models() if served.name == model)
