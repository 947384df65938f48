"""How are numbers written where there is little room? Pure."""

from __future__ import annotations

from typing import Final

_THOUSANDS: Final = ("", "k", "M", "G", "T", "P")
_AGES: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "m"))


def count(value: float) -> str:
    """At most five characters up to 10^17: 0, 0.3, 7, 999, 1.2k, 35k, 4.0M; below 10 a rate keeps one decimal."""
    if value < 10 and value != int(value):
        return f"{value:.1f}" if value >= 0.05 else "<0.1"
    power = 0
    while float(shown := f"{value:.1f}" if power and value < 9.95 else f"{value:.0f}") >= 1000:
        value /= 1000
        power += 1
    return shown + _THOUSANDS[power]


def age(seconds: float) -> str:
    """At most four characters up to 999 days: 0s, 12s, 3m, 5h, 2d."""
    for size, unit in _AGES:
        if seconds >= size:
            return f"{int(seconds / size)}{unit}"
    return f"{int(seconds)}s"


def share(part: float | None) -> str:
    """A part of one, as a percentage; `-` where nobody knows."""
    return "-" if part is None else f"{100 * part:.0f}%"


def clip(text: str, width: int) -> str:
    """A text that fits, with a mark where it was cut. What a terminal would obey, and not show, is replaced."""
    shown = "".join(character if character.isprintable() else "�" for character in text)
    return shown if len(shown) <= width else shown[: max(0, width - 1)] + "…"
