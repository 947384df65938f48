"""Would a worker start here with this configuration: what does `embedmq doctor` look at on its behalf?"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Final

from embedmq_schemas.check import MISCONFIGURED, Check, Look, Visit
from embedmq_schemas.limits import MIB

from embedmq_worker import doctor_servers
from embedmq_worker.config import Config, Model
from embedmq_worker.configuration import load
from embedmq_worker.doctor_fit import DEVICE, MEMORY, TORCH, device, fit, memory
from embedmq_worker.doctor_load import LOAD, loads
from embedmq_worker.engine import checkpoint, devices, fitting, null, readable, weights
from embedmq_worker.engine.kinds import kind_of
from embedmq_worker.errors import ConfigInvalid, WorkerError
from embedmq_worker.flags import environment
from embedmq_worker.memory import budget_bytes

CONFIGURATION: Final = Look(
    name="configuration",
    at="the file of `--config`, with the environment laid over it",
    bad_is="an unknown key, a wrong value, a secret in the file",
    remedy="embedmq config schema lists every key",
    exit_code=MISCONFIGURED,
)
EXTRAS: Final = Look(
    name="extras",
    at="whether what the configuration asks for is installed: torch for models, OpenTelemetry for `[tracing]`",
    bad_is="a package that is missing",
    remedy="pip install 'embedmq[worker]', and 'embedmq[otel]' for [tracing]",
    exit_code=MISCONFIGURED,
)
MODEL: Final = Look(
    name="model",
    at="each checkpoint, without loading its weights: where it is, its configurations, its tokenizer, the headers of "
    "its safetensors",
    bad_is="it is missing, cut off, pickled, without tokenizer, of an architecture that the installed transformers "
    "does not know, or brings code of its own",
    remedy="correct models.NAME.checkpoint in the configuration, or put the files there",
    exit_code=MISCONFIGURED,
)
HTTP: Final = Look(
    name="http",
    at="`worker.http`",
    bad_is="an address on which nothing can listen",
    remedy="choose another, or port 0 for a free one",
    exit_code=MISCONFIGURED,
)
LOOKS: Final = (CONFIGURATION, EXTRAS, *doctor_servers.LOOKS, MODEL, HTTP, TORCH, DEVICE, MEMORY, LOAD)
PACKAGES: Final = ("torch", "transformers", "sentence_transformers")
OTEL: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def checks(visit: Visit) -> Iterable[Check]:
    """The configuration file, what its worker may do, and what it names: checkpoints, the device, the HTTP address.

    Without a file there is nothing to look at: a worker needs one, the other commands do not.
    """
    told = visit.invocation
    if told.config is None:
        yield CONFIGURATION.skipped("none was given", "--config FILE has a worker's models and rights looked at too")
        return
    try:
        config = load(told.config, environment(told, os.environ))
    except ConfigInvalid as error:
        yield CONFIGURATION.bad(str(error))
        return
    yield CONFIGURATION.good(f"{told.config}: {len(config.models)} model(s)")
    extras = installed(config)
    yield extras
    yield from _servers(config, visit)
    yield from _models(config)
    yield _http(config.worker.http)
    if null.all_are(config.models.values()):
        if visit.load:
            yield from loads(config)
        return
    yield from _device(config, load_too=visit.load) if extras.ok else ()


def installed(config: Config) -> Check:
    """Whether the packages are there that this configuration needs beyond those of a producer."""
    wanted = [*(() if null.all_are(config.models.values()) else PACKAGES), *(OTEL if config.tracing.enabled else ())]
    missing = [name for name in wanted if not _is_there(name)]
    if not missing:
        return EXTRAS.good("all that it needs is installed")
    extras = {"otel" if name in OTEL else "worker" for name in missing}
    return EXTRAS.bad(f"{', '.join(missing)} missing", f"pip install 'embedmq[{','.join(sorted(extras))}]'")


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # not even what it is a part of
        return False


def _servers(config: Config, visit: Visit) -> Iterator[Check]:
    kafka, redis = doctor_servers.LOOKS[:3], doctor_servers.LOOKS[3:]
    if visit.failed & {"settings", "kafka"}:
        yield from (look.skipped("Kafka is not reached") for look in kafka)
    else:
        yield from asyncio.run(doctor_servers.kafka_checks(config))
    if visit.failed & {"settings", "redis"}:
        yield from (look.skipped("Redis is not reached") for look in redis)
    else:
        yield from asyncio.run(doctor_servers.redis_checks(config))


def _models(config: Config) -> Iterator[Check]:
    for name, model in config.models.items():
        for text in [model.checkpoint, *model.heads]:
            try:
                yield MODEL.good(_look(text, model), of=name)
            except (WorkerError, ValueError, OSError) as error:
                found = str(error) if isinstance(error, WorkerError) else f"{text}: {error}"
                yield MODEL.bad(found, MODEL.remedy.replace("NAME", name), of=name)


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
    readable.check(folder, text)
    return f"{kind_of(folder)} of {mib:,.0f} MiB, safetensors in {folder}, revision {revision}"


def _device(config: Config, *, load_too: bool) -> Iterator[Check]:
    facts = fitting.gather()
    fits = fit(facts, config.worker.device)
    yield fits
    if facts is None:
        yield from (look.skipped("torch is not installed") for look in (DEVICE, MEMORY))
        return
    found = device(config.worker.device, devices.present())
    yield found
    if not found.ok:
        yield MEMORY.skipped("the device is not here")
        return
    yield _memory(config, facts)
    if load_too:
        yield from loads(config)


def _memory(config: Config, facts: fitting.Facts) -> Check:
    wanted, setting = devices.resolve(config.worker.device), config.worker.memory_budget_bytes
    kind, _, number = wanted.partition(":")
    gpu = facts.gpus[int(number or 0)] if kind == "cuda" and setting == "auto" and facts.gpus else None
    sizes = {name: _size_bytes(model) for name, model in config.models.items()}
    pinned = {name for name, model in config.models.items() if model.pinned}
    return memory(sizes, pinned, budget_bytes(setting, config.worker.device, 1), gpu)


def _size_bytes(model: Model) -> int:
    """Bytes of weights; 0 where they are not here, or not sound, which has been said already."""
    try:
        return checkpoint.size_bytes(model, checkpoint.find)
    except WorkerError:
        return 0


def _http(address: str) -> Check:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_server((host, int(port))):
            return HTTP.good(f"{address} is free")
    except (OSError, ValueError, OverflowError) as error:
        return HTTP.bad(f"worker.http = {address!r}: cannot listen there: {error}")
