"""What was a fake client asked, in order?"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from copy import copy
from functools import wraps
from typing import Protocol, TypeVar, cast

from msgspec import Struct

_T = TypeVar("_T", bound=type)

OURS = "embedmq"
ITEMS = frozenset({"items", "documents"})
"""Parameters that hold what is to be computed."""


class Call(Struct, frozen=True):
    """One call of a client's method, as its caller wrote it."""

    method: str
    model: str | None
    items: object
    """Texts or documents as they were then, of `map` and `publish_all` whatever gives them; None where there are none.
    """
    options: Mapping[str, object]
    """Every other argument that was given, by its name."""


class _Noting(Protocol):
    @property
    def calls(self) -> list[Call]: ...


def notes_calls(real: type) -> Callable[[_T], _T]:
    """Decorate a fake client: every public method of the `real` one, whatever it will have, first notes its call."""

    def decorate(fake: _T) -> _T:
        for name, method in inspect.getmembers(real, inspect.isfunction):
            if not name.startswith("_"):
                setattr(fake, name, _noted(method))
        return fake

    return decorate


def _noted(method: Callable[..., object]) -> Callable[..., object]:
    signature = inspect.signature(method)

    @wraps(method)
    def call(self: _Noting, /, *args: object, **kwargs: object) -> object:
        given = dict(signature.bind(self, *args, **kwargs).arguments)
        caller = str(sys._getframe(1).f_globals.get("__name__"))
        if caller.partition(".")[0] != OURS:  # the client's methods use each other
            self.calls.append(_read(method.__name__, given))
        return method(self, *args, **kwargs)

    return call


def _read(name: str, given: Mapping[str, object]) -> Call:
    given = {**given, **cast("Mapping[str, object]", given.get("options", {}))}
    flat = {key: copy(value) if isinstance(value, (list, dict)) else value for key, value in given.items()}
    options = {key: value for key, value in flat.items() if key not in {"self", "model", "options", *ITEMS}}
    items = next((flat[key] for key in ITEMS & flat.keys()), None)
    return Call(name, cast("str | None", flat.get("model")), items, options)
