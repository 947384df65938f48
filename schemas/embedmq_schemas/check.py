"""What did one look at the installation find, and what should be done about it?"""

from __future__ import annotations

from msgspec import Struct


class Check(Struct, frozen=True, kw_only=True):
    """One finding of `embedmq doctor`; `remedy` is empty when all is well."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    exit_code: int = 2
    """What the command exits with when this check fails: 2 for configuration, 3 for a service not reached."""
