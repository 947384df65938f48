"""Which options do the commands share that ask for vectors?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict, TypeVar

import click
from embedmq_schemas.requests import DTYPES, LANES, OUTPUTS

from embedmq.requests import EmbedOptions

_F = TypeVar("_F", bound=Callable[..., object])


class Asked(TypedDict):
    """The values of `asking_options`."""

    output: Sequence[str]
    prompt_name: str | None
    prompt: str | None
    dimensions: int | None
    dtype: str
    normalize: bool | None
    truncate: bool
    tenant: str
    revision: str | None


_OPTIONS = [
    click.option("--output", multiple=True, type=click.Choice(OUTPUTS), default=["dense"], help="May be repeated."),
    click.option("--prompt-name", help="A prompt that the model knows, such as `query`."),
    click.option("--prompt", help="A text to put before each text."),
    click.option("--dimensions", type=click.IntRange(min=1), help="Keep this many, for models that allow it."),
    click.option(
        "--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="Type of the numbers."
    ),
    click.option("--normalize/--no-normalize", default=None, help="Length 1, or as the model leaves it."),
    click.option("--truncate/--no-truncate", default=True, show_default=True, help="Cut long texts, or fail them."),
    click.option("--tenant", default="", help="Whose request it is."),
    click.option("--revision", help="Only by this revision of the model."),
]


def asking_options(command: _F) -> _F:
    """Add the options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def lane_option(default: str) -> Callable[[_F], _F]:
    """The lane."""
    return click.option("--lane", type=click.Choice(LANES), default=default, show_default=True, help="Which queue.")


def options_of(asked: Asked) -> EmbedOptions:
    """The values by the names of `Client.embed`."""
    return {
        "outputs": tuple(asked["output"]),
        "prompt_name": asked["prompt_name"],
        "prompt": asked["prompt"],
        "dimensions": asked["dimensions"],
        "dtype": asked["dtype"],
        "normalize": asked["normalize"],
        "truncate": asked["truncate"],
        "tenant": asked["tenant"],
        "revision": asked["revision"],
    }
