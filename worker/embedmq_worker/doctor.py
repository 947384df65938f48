"""Would a worker start here with this configuration: what does `embedmq doctor` look at on its behalf?"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping

from embedmq_schemas.check import Check
from embedmq_schemas.invocation import Invocation
from embedmq_schemas.limits import MIB

from embedmq_worker.config import Config, Model
from embedmq_worker.configuration import load
from embedmq_worker.engine import checkpoint, devices, null, weights
from embedmq_worker.engine.kinds import kind_of
from embedmq_worker.errors import ConfigInvalid, WorkerError
from embedmq_worker.flags import environment
from embedmq_worker.memory import budget_bytes


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
    if null.all_are(config.models.values()):
        return
    present = devices.present()
    found = device(config.worker.device, present)
    yield found
    if found.ok:
        yield _memory(config)


def _models(config: Config) -> Iterator[Check]:
    for name, model in config.models.items():
        for text in [model.checkpoint, *model.heads]:
            try:
                found, ok, remedy = _look(text, model), True, ""
            except WorkerError as error:
                remedy = f"correct models.{name}.checkpoint in the configuration, or put the files there"
                found, ok = str(error), False
            yield Check(name=f"model {name}", ok=ok, found=found, remedy=remedy)


def _look(text: str, model: Model) -> str:
    """Where a checkpoint is and what it is, without loading it, or going to the hub for it."""
    kind, _, rest = text.partition(":")
    if kind == "null":
        return f"{text}: vectors of {null.read(rest).dimensions} equal numbers, to measure"
    folder = checkpoint.find(text)
    if folder is None:
        return f"{text}: not in the cache; fetched from the hub when a worker first needs it"
    revision = checkpoint.examine(folder, text, model.trust_remote_code).revision
    mib = weights.size_bytes(folder, model.dtype) / MIB
    return f"{kind_of(folder)} of {mib:,.0f} MiB, safetensors in {folder}, revision {revision}"


def _memory(config: Config) -> Check:
    budget = budget_bytes(config.worker.memory_budget_bytes, config.worker.device, 1)
    sizes = {name: _size_bytes(model) for name, model in config.models.items()}
    return memory(sizes, {name for name, model in config.models.items() if model.pinned}, budget)


def _size_bytes(model: Model) -> int:
    """Bytes of weights; 0 where they are not here, or not sound, which has been said already."""
    try:
        return checkpoint.size_bytes(model, checkpoint.find)
    except WorkerError:
        return 0


def memory(sizes: Mapping[str, int], pinned: Collection[str], budget: int) -> Check:
    """Whether the pinned models fit into the budget together, and each other one beside them. Pure.

    `sizes`: bytes of each model's weights; what a batch takes beside them is known only when a model is loaded.
    """
    held = sum(sizes[name] for name in pinned)
    room = f"{held / MIB:,.0f} of {budget / MIB:,.0f} MiB hold the weights of {len(pinned)} pinned model(s)"
    late = sorted(name for name, size in sizes.items() if name not in pinned and held + size > budget)
    if held <= budget and not late:
        return Check(name="memory", ok=True, found=room)
    found = f"{room}; too little is left for {', '.join(late)}" if held <= budget else f"{room}, which is too little"
    remedy = "pin fewer models, compute in bfloat16, or raise worker.memory_budget_bytes"
    return Check(name="memory", ok=False, found=found, remedy=remedy)


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
        return Check(name="device", ok=True, found=f"auto takes {devices.preferred(present)}")
    if (index or "0").isdecimal() and int(index or 0) < present.get(kind, 0):
        return Check(name="device", ok=True, found=f"{wanted} is here")
    offered = ", ".join(f"{count} {kind}" for kind, count in present.items() if count)
    return Check(
        name="device",
        ok=False,
        found=f"worker.device = {wanted!r} is not here; torch sees {offered}",
        remedy="choose one of these, or auto; where a cuda should be, see that driver and torch fit each other",
    )
