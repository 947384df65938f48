"""What does a client ask for where a call does not say?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Annotated, Concatenate, Final, Literal, ParamSpec, Protocol, TypedDict, TypeVar

from embedmq_schemas.requests import Lane
from msgspec import Meta, Struct

_P = ParamSpec("_P")
_R = TypeVar("_R")

Seconds = Annotated[float, Meta(gt=0)]


class Defaults(TypedDict, total=False):
    """What `Client(defaults={...})` takes, by the names of the arguments that it stands in for.

    A default holds in every method that has an argument of its name, in place of the one in that method's signature;
    an argument that a call passes wins, also one that says what the signature says.
    """

    outputs: Sequence[str]
    prompt_name: str
    prompt: str
    dimensions: int
    dtype: str
    normalize: bool
    truncate: bool
    tenant: str
    revision: str
    timeout_s: float
    lane: Lane
    keep_s: int


class Standing(Struct, frozen=True, kw_only=True):
    """The same, checked; None is what a method's signature says."""

    outputs: list[Literal["dense", "sparse", "multivector"]] | None = None
    """Which vectors calls ask for, where they do not say."""
    prompt_name: str | None = None
    """A prompt that the model knows, for calls that do not say."""
    prompt: str | None = None
    """A text to put before each text, for calls that do not say."""
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    """How many dimensions to keep, where calls do not say."""
    dtype: Literal["float32", "float16", "int8", "ubinary"] | None = None
    """Type of the numbers, where calls do not say."""
    normalize: bool | None = None
    """Vectors of length 1, or as the model leaves them, where calls do not say."""
    truncate: bool | None = None
    """Cut long texts, or fail them, where calls do not say."""
    tenant: str | None = None
    """Whose requests they are, where calls do not say."""
    revision: str | None = None
    """The model's revision, where calls do not say."""
    timeout_s: Seconds | None = None
    """Time limit of calls that do not say: of every kind, also of those that have none by themselves."""
    lane: Lane | None = None
    """The queue of calls that do not say: of every kind."""
    keep_s: Annotated[int, Meta(ge=1)] | None = None
    """How long results are kept, where `submit` and `publish` do not say."""

    def defaults(self) -> dict[str, object]:
        """What was chosen, by the names of the arguments."""
        chosen = {name: getattr(self, name) for name in Standing.__struct_fields__}
        return {name: value for name, value in chosen.items() if value is not None}


EVERY: Final = frozenset(Standing.__struct_fields__)
OF_EMBED: Final = EVERY - {"keep_s"}
EITHER: Final = {"prompt": "prompt_name", "prompt_name": "prompt"}
"""Arguments of which a request has one: a call that passes the other does without the default of this one."""
OF_SCORE: Final = frozenset({"truncate", "tenant", "revision", "timeout_s", "lane"})


def check_names(defaults: Mapping[str, object]) -> None:
    """Refuse a default for an argument that no method has; raises ValueError."""
    for name in defaults.keys() - EVERY:
        raise ValueError(f"defaults: {name!r} is none: choose of {', '.join(sorted(EVERY))}")


class Defaulted(Protocol):
    """Whoever has defaults."""

    @property
    def defaults(self) -> Mapping[str, object]:
        """Values by the names of arguments."""
        ...


_C = TypeVar("_C", bound=Defaulted)


def defaulted(
    names: frozenset[str],
) -> Callable[[Callable[Concatenate[_C, _P], _R]], Callable[Concatenate[_C, _P], _R]]:
    """Let a method take from its client what a call does not pass, as far as it has arguments of these names."""

    def decorate(method: Callable[Concatenate[_C, _P], _R]) -> Callable[Concatenate[_C, _P], _R]:
        @wraps(method)
        def call(self: _C, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
            for name, value in self.defaults.items():
                if name in names and kwargs.get(EITHER.get(name, "")) is None:
                    kwargs.setdefault(name, value)
            return method(self, *args, **kwargs)

        return call

    return decorate
