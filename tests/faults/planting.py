"""Which cheap row must turn red for which planted bug?"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PLANTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "commit_before_deliver": "7b",
        "drop_on_redis_error": "8a",
        "grace_ignored": "8f",
        "marker_lost": "9b",
        "skip_by_offset_alone": "14c",
    }
)
"""Bug: row."""
