"""Which failure codes exist, which may be tried again, and which end on the dead-letter topic?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Code = Literal[
    "malformed",
    "unknown_model",
    "unsupported",
    "too_long",
    "too_large",
    "deadline_exceeded",
    "cancelled",
    "model_unavailable",
    "processing_failed",
    "undeliverable",
    "quota_exceeded",
]


@dataclass(frozen=True, slots=True)
class CodeFacts:
    """What a code means to the caller (`retryable`) and to the operator (`dead_letter`)."""

    retryable: bool
    dead_letter: bool
    meaning: str


CODES: Final[Mapping[Code, CodeFacts]] = MappingProxyType(
    {
        "malformed": CodeFacts(False, True, "the bytes are no request: undecodable, or a field has the wrong type"),
        "unknown_model": CodeFacts(False, True, "no worker is configured to serve this model"),
        "unsupported": CodeFacts(False, False, "a field, option or output that this model or version does not offer"),
        "too_long": CodeFacts(False, False, "an item exceeds the model's tokens and `truncate` is off"),
        "too_large": CodeFacts(False, False, "more items or bytes than one record or reply may hold"),
        "deadline_exceeded": CodeFacts(False, False, "the deadline passed before the device was reached"),
        "cancelled": CodeFacts(False, False, "the caller cancelled before the device was reached"),
        "model_unavailable": CodeFacts(True, True, "the model could not be loaded on any attempt"),
        "processing_failed": CodeFacts(True, True, "the device failed on this item, alone"),
        "undeliverable": CodeFacts(False, True, "the reply topic is missing, not allowed or too small for the reply"),
        "quota_exceeded": CodeFacts(True, False, "the tenant is over its quota"),
    }
)


def find(code: str) -> CodeFacts | None:
    """The facts of a code read from the wire; None for one of a later version."""
    return next((facts for known, facts in CODES.items() if known == code), None)


def exception_name(code: str) -> str:
    """Name a code the way dead-letter readers expect an exception class: `unknown_model` is `embedmq.UnknownModel`."""
    return "embedmq." + "".join(part.capitalize() for part in code.split("_"))
