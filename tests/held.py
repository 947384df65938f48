"""A real worker that a test can hold: told apart from the one that is shipped by null models that wait to be let go.

It is run as `command` says, with `HELD_FOLDER` in its environment. While a `Hold` of that folder is on, a load
of a model that declares `load_ms`, or a batch of one that declares `batch_ms`, does not end. So what a test claims of
the time between two events is true on any machine, however long the machine takes. `HELD_AHEAD_S` sets its clock.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embedmq.cli.root import main
from embedmq_worker import house
from embedmq_worker.config import Model
from embedmq_worker.engine import null
from embedmq_worker.engine.seam import Done, Slice

AHEAD = "HELD_AHEAD_S"
LOOK_S = 0.005

What = Literal["batch", "load"]


@dataclass(frozen=True)
class Hold:
    """What a worker with this folder may not finish."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"HELD_FOLDER": str(self.folder)}

    @contextmanager
    def on(self, what: What) -> Iterator[Callable[[], bool]]:
        """Hold all of a kind until the end of the block; what it is entered with says whether one has come so far."""
        order, arrived = self.folder / f"hold-{what}", self.folder / f"held-{what}"
        arrived.unlink(missing_ok=True)
        order.touch()
        try:
            yield arrived.exists
        finally:
            order.unlink()

    def obey(self, what: What) -> None:
        """Wait, in the worker, until nothing holds this."""
        while (self.folder / f"hold-{what}").exists():
            (self.folder / f"held-{what}").touch()
            time.sleep(LOOK_S)


class HeldEngine(null.NullEngine):
    """Each batch lasts until it is let go, and `batch_ms` longer."""

    def __init__(self, hold: Hold, form: null.Form) -> None:
        super().__init__(form.dimensions, form.batch_ms, mib=form.mib)
        self._hold = hold

    def launch(self, batch: Sequence[Slice]) -> Done:
        self._hold.obey("batch")
        return super().launch(batch)


def command(config: Path) -> list[str]:
    """What starts such a worker."""
    return [sys.executable, "-P", __file__, "--config", str(config)]


def load(model: Model, device: str) -> null.NullEngine:
    """Takes the place of `embedmq_worker.engine.load.load`."""
    hold, rest = Hold(Path(os.environ["HELD_FOLDER"])), model.checkpoint.removeprefix("null:")
    form = null.read(rest)
    if form.load_ms:
        hold.obey("load")
        time.sleep(form.load_ms / 1000)
    return HeldEngine(hold, form) if form.batch_ms else null.NullEngine(form.dimensions, mib=form.mib)


def set_clock(ahead_s: float) -> None:
    """Have the worker believe that it is later."""
    real = time.time
    time.time = lambda: real() + ahead_s


if __name__ == "__main__":
    set_clock(float(os.environ.get(AHEAD, "0")))
    setattr(house, "load", load)  # noqa: B010  # both type checkers refuse the plain form
    sys.argv[1:1] = ["worker"]
    main()
