"""How is a running worker under test told to break in another way than by a text? By files in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Switch = Literal["load", "clock", "block", "fail"]
"""`load`: how loading fails; `fail`: every batch does; `clock`: seconds by which the wall clock is wrong; `block`:
seconds for which the event loop stands still, once.
"""


class Switches:
    """The files; the worker reads, the row writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, switch: Switch) -> str | None:
        """What it is set to."""
        try:
            return (self._folder / switch).read_text()
        except FileNotFoundError:
            return None

    def set(self, switch: Switch, value: object) -> None:
        """Readers see the old value or the new one, never a half."""
        fresh = self._folder / f"{switch}.fresh"
        fresh.write_text(str(value))
        fresh.replace(self._folder / switch)

    def clear(self, switch: Switch) -> None:
        """As if it had never been set."""
        (self._folder / switch).unlink(missing_ok=True)
