"""How do columns that travel along stand beside those that a sink writes itself?"""

from __future__ import annotations

from embedmq.bulk.errors import SinkRefused
from embedmq.bulk.rows import Scalar, Shape


def refuse_collisions(shape: Shape, own: frozenset[str], where: str) -> None:
    """Raise SinkRefused where a kept column has the name of one of the sink's own."""
    if taken := sorted(own.intersection(shape.keep)):
        raise SinkRefused(f"{where} has {', '.join(sorted(own))} of its own: do not keep {', '.join(taken)}")


def as_text(value: Scalar) -> str | None:
    """A kept value in a column of text; PostgreSQL reads it into a column of any other type, too."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)
