"""What was the command line told, for the commands of every package?"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct


class Invocation(Struct, frozen=True, kw_only=True):
    """The global options; None where neither a flag nor the environment gave one."""

    kafka: str | None = None
    redis: str | None = None
    prefix: str | None = None
    config: Path | None = None
    json: bool = False
    debug: bool = False
