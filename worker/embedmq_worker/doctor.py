"""Would a worker start here with this configuration: what does `embedmq doctor` look at on its behalf?"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping

from embedmq_schemas.check import Check
from embedmq_schemas.invocation import Invocation

from embedmq_worker.config import Config
from embedmq_worker.configuration import load
from embedmq_worker.engine import devices, null
from embedmq_worker.engine.checkpoint import locate
from embedmq_worker.errors import CheckpointInvalid, ConfigInvalid
from embedmq_worker.flags import environment


def checks(invocation: Invocation) -> Iterable[Check]:
    """The configuration file, and what it names: checkpoints, the device, the HTTP address.

    Without a file there is nothing to look at: a worker needs one, the other commands do not.
    """
    if invocation.config is None:
        yield Check(name="worker", ok=True, found="no configuration given: --config FILE has its models looked at too")
        return
    try:
        config = load(invocation.config, environment(invocation, os.environ))
    except ConfigInvalid as error:
        yield Check(name="configuration", ok=False, found=str(error), remedy="embedmq config schema lists every key")
        return
    yield Check(name="configuration", ok=True, found=f"{invocation.config}: {len(config.models)} model(s)")
    yield from _models(config)
    yield _http(config.worker.http)
    if any(not model.checkpoint.startswith("null:") for model in config.models.values()):
        yield device(config.worker.device, devices.present())


def _models(config: Config) -> Iterator[Check]:
    for name, model in config.models.items():
        try:
            found = _locate(model.checkpoint)
        except CheckpointInvalid as error:
            remedy = f"correct models.{name}.checkpoint in the configuration, or put the files there"
            yield Check(name=f"model {name}", ok=False, found=str(error), remedy=remedy)
        else:
            yield Check(name=f"model {name}", ok=True, found=found)


def _locate(text: str) -> str:
    """Where a checkpoint is, as far as can be said without loading it, or going to the hub for it."""
    kind, _, rest = text.partition(":")
    if kind == "null":
        return f"{text}: vectors of {null.parse(rest).facts.dimensions} equal numbers, to measure"
    checkpoint = locate(text)
    if checkpoint.hub:
        return f"{text}: from the hub when the worker starts, unless it was fetched before"
    return f"safetensors in {checkpoint.source}, revision {checkpoint.revision}"


def _http(address: str) -> Check:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_server((host, int(port))):
            return Check(name="http", ok=True, found=f"{address} is free")
    except (OSError, ValueError, OverflowError) as error:
        found = f"worker.http = {address!r}: cannot listen there: {error}"
        return Check(name="http", ok=False, found=found, remedy="choose another, or port 0 for a free one")


def device(wanted: str, present: Mapping[str, int]) -> Check:
    """Whether the configured device is there. `present`: how many devices of each kind, empty without torch. Pure."""
    if not present:
        return Check(name="device", ok=False, found="torch is not installed", remedy="pip install 'embedmq[worker]'")
    kind, _, index = wanted.partition(":")
    if wanted == "auto":
        best = next(kind for kind, count in present.items() if count)
        return Check(name="device", ok=True, found=f"auto takes {best}")
    if (index or "0").isdecimal() and int(index or 0) < present.get(kind, 0):
        return Check(name="device", ok=True, found=f"{wanted} is here")
    offered = ", ".join(f"{count} {kind}" for kind, count in present.items() if count)
    return Check(
        name="device",
        ok=False,
        found=f"worker.device = {wanted!r} is not here; torch sees {offered}",
        remedy="choose one of these, or auto; where a cuda should be, see that driver and torch fit each other",
    )
