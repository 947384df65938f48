"""What did one look at the installation find, and what should be done about it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from embedmq_schemas.invocation import Invocation

WRONG: Final = 1
MISCONFIGURED: Final = 2
NOT_LET_IN: Final = 3
"""What `embedmq doctor` exits with: the largest of those of the checks that failed."""


class Check(Struct, frozen=True, kw_only=True):
    """One finding of `embedmq doctor`."""

    name: str
    ok: bool | None
    """None where it was not looked at; `found` says why."""
    found: str
    remedy: str = ""
    """Empty when all is well."""
    exit_code: int = 0
    """What the command exits with for this finding; 0 unless it is bad."""


class Look(Struct, frozen=True, kw_only=True):
    """One thing that is looked at: a row of docs/doctor.md."""

    name: str
    at: str
    """What it looks at."""
    bad_is: str
    """What bad looks like."""
    remedy: str
    """What to do, where a finding does not know better."""
    exit_code: int = WRONG

    def good(self, found: str, of: str = "") -> Check:
        """All is well. `of` tells several findings of one look apart."""
        return Check(name=self._name(of), ok=True, found=found)

    def bad(self, found: str, remedy: str = "", of: str = "") -> Check:
        """Something has to be done."""
        return Check(name=self._name(of), ok=False, found=found, remedy=remedy or self.remedy, exit_code=self.exit_code)

    def skipped(self, why: str, remedy: str = "", of: str = "") -> Check:
        """Not looked at."""
        return Check(name=self._name(of), ok=None, found=f"not looked at: {why}", remedy=remedy)

    def _name(self, of: str) -> str:
        return f"{self.name} {of}" if of else self.name


class Visit(Struct, frozen=True, kw_only=True):
    """What a package's checks are told: the options, and what was found before them."""

    invocation: Invocation
    load: bool = False
    """Whether each model is to be loaded, which takes seconds to minutes."""
    failed: frozenset[str] = frozenset()
    """Names of the checks that failed, or were not made because others had."""


class Harmless(NamedTuple):
    """A command of Redis in a form that changes nothing, and the keys that its user needs it for, as an ACL says it."""

    words: tuple[str | int, ...]
    keys: str = ""


def forbidden(tried: Sequence[Harmless], answers: Sequence[object]) -> list[str]:
    """The rules that an ACL has to have besides, by what Redis answered to each command: `+xread`, `~embedmq:model:*`.

    Any other answer, an error too, is of a command that was allowed. The error is known by its name, since this package
    does not know Redis. Pure.
    """
    rules = [
        f"~{each.keys}" if "key" in str(answer) else f"+{str(each.words[0]).lower()}"
        for each, answer in zip(tried, answers, strict=True)
        if type(answer).__name__ == "NoPermissionError"
    ]
    return list(dict.fromkeys(rules))
