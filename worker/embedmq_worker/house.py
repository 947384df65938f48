"""Where do models live, and how is one opened that may?"""

from __future__ import annotations

from pathlib import Path

from embedmq_worker.config import Config
from embedmq_worker.engine import null
from embedmq_worker.engine.checkpoint import expect, locate, size_bytes
from embedmq_worker.engine.load import load
from embedmq_worker.engine.seam import Engine
from embedmq_worker.memory import budget_bytes
from embedmq_worker.residents import Residents
from embedmq_worker.roster import Roster


class Configured:
    """Opens the models that the roster lists, or listed when they were asked for. Called in the loader's thread."""

    def __init__(self, roster: Roster, device: str) -> None:
        self._roster = roster
        self._device = device

    def size_bytes(self, model: str) -> int:
        """What its weights will take; one of the hub is fetched for that."""
        found = self._roster.last(model)
        return size_bytes(found, lambda text: Path(locate(text, trust_remote_code=found.trust_remote_code).source))

    def load(self, model: str) -> Engine:
        """Load it onto the device."""
        return load(self._roster.last(model), self._device)


def house(config: Config, roster: Roster, sharers: int) -> Residents:
    """Where models live.

    Raises:
        CheckpointInvalid: one is configured that is nowhere to be found. Whether it can be loaded shows when it is.
    """
    settings = config.worker
    for model in config.models.values():
        expect(model)
    # looking at the device takes the seconds that torch's import takes: constant vectors need neither
    device = "cpu" if null.all_are(config.models.values()) else settings.device
    total = budget_bytes(settings.memory_budget_bytes, device, sharers)
    return Residents(roster, Configured(roster, settings.device), total, settings)
