"""How does a client reach Kafka and Redis, and how long does it wait for them?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final, Self, TypedDict

import msgspec
from embedmq_schemas.connection import KafkaConnection, RedisConnection, redact_url, url_fault
from embedmq_schemas.names import is_prefix
from msgspec import Meta

from embedmq.defaults import Defaults, Seconds, Standing

if TYPE_CHECKING:
    from aiokafka.abc import AbstractTokenProvider

REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
OWN_SECTION = "client"
"""`EMBEDMQ_CLIENT__<KEY>` sets what is neither Kafka's nor Redis's."""


class Connections(TypedDict, total=False):
    """The rarer keyword settings of a client; `kafka_*` and `redis_*` as in a worker's `[kafka]` and `[redis]`."""

    connect_timeout_s: float
    publish_timeout_s: float
    redis_timeout_s: float
    resend_grace_s: float
    resend_per_s: float
    kafka_batch_bytes: int
    kafka_tls: bool
    kafka_ca_file: str
    kafka_cert_file: str
    kafka_key_file: str
    kafka_key_password: str
    kafka_sasl_mechanism: str
    kafka_sasl_username: str
    kafka_sasl_password: str
    kafka_sasl_token_file: str
    kafka_token_provider: AbstractTokenProvider
    redis_username: str
    redis_password: str
    redis_ca_file: str
    redis_cert_file: str
    redis_key_file: str


class Settings(Connections, total=False):
    """Every keyword setting of a client."""

    prefix: str
    max_in_flight_items: int
    defaults: Defaults


class Setup(Standing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A client's settings, and the defaults of its calls, checked."""

    kafka: KafkaConnection
    redis: RedisConnection | None = None
    token_provider: object = None
    """Gives OAUTHBEARER tokens: an `aiokafka.abc.AbstractTokenProvider`."""
    prefix: str = "embedmq"
    """Begins every topic, group and key."""
    max_in_flight_items: Annotated[int, Meta(ge=1)] = 1_024
    """Items sent and not yet answered; further calls wait."""
    connect_timeout_s: Seconds = 10.0
    """How long Kafka and Redis may take to let us in when the client starts."""
    publish_timeout_s: Seconds = 30.0
    """How long Kafka may take to acknowledge a request before the call ends in `Unavailable`."""
    redis_timeout_s: Seconds = 30.0
    """How long Redis may be away before the calls that wait for it end in `Unavailable`."""
    resend_grace_s: Seconds = 5.0
    """After Redis was lost and is back: how long answers may take that workers held meanwhile, before what was sent
    earlier and has no answer is sent once more.
    """
    resend_per_s: Annotated[float, Meta(gt=0)] = 200.0
    """How many requests a second are sent once more."""
    kafka_batch_bytes: Annotated[int, Meta(ge=1_024)] = 65_536
    """Requests of one partition that travel together, in bytes; a larger one travels alone."""

    def __post_init__(self) -> None:
        if not is_prefix(self.prefix):
            raise ValueError(f"prefix = {self.prefix!r}: wants letters, digits, dashes and underscores")
        if any("@" in address for address in self.kafka.bootstrap):  # it may be a password: nothing of it is shown
            raise ValueError("kafka: host:port has no place for a login: set EMBEDMQ_KAFKA__SASL_USERNAME and its like")
        for address in self.kafka.bootstrap:
            if not _is_address(address):
                raise ValueError(f"kafka = {address!r}: wants host:port (EMBEDMQ_KAFKA, --kafka)")
        if self.prompt is not None and self.prompt_name is not None:
            raise ValueError("defaults: prompt and prompt_name exclude each other: choose one of them")
        if self.redis is not None and not self.redis.url.startswith(REDIS_SCHEMES):
            shown = redact_url(self.redis.url)
            raise ValueError(f"redis = {shown!r}: wants {', '.join(REDIS_SCHEMES)}… (EMBEDMQ_REDIS, --redis)")
        if self.redis is not None and (fault := url_fault(self.redis.url)) is not None:
            raise ValueError(f"redis.url: {fault} (EMBEDMQ_REDIS, --redis)")

    @classmethod
    def of(cls, kafka: str, redis: str | None, settings: Mapping[str, object], *, strict: bool = True) -> Self:
        """Check settings by name; raises ValueError naming the one that is wrong. `strict=False` reads text."""
        sections: dict[str, dict[str, object]] = {
            "kafka": {"bootstrap": kafka.split(",")},
            "redis": {},
            OWN_SECTION: {},
        }
        for name, value in settings.items():
            section, _, key = name.partition("_")
            if name in cls.__struct_fields__:
                sections[OWN_SECTION][name] = value
            elif name == "kafka_token_provider":
                sections[OWN_SECTION]["token_provider"] = value
            else:
                sections.get(section, sections[OWN_SECTION])[key if section in sections else name] = value
        own = sections[OWN_SECTION] | {"kafka": sections["kafka"]}
        if redis is not None:
            own["redis"] = sections["redis"] | {"url": redis}
        try:
            return msgspec.convert(own, cls, strict=strict)
        except msgspec.ValidationError as error:
            raise ValueError(f"client settings: {error}") from None

    @classmethod
    def from_paths(cls, found: Mapping[tuple[str, ...], object]) -> Self:
        """Read settings by their paths in a worker's file or in the environment, where workers have theirs too: those
        are passed over. Redis only if it is named. Raises ValueError.
        """
        kafka, redis = found.get(("kafka", "bootstrap"), "127.0.0.1:9092"), found.get(("redis", "url"))
        settings: dict[str, object] = {}
        for path, value in found.items():
            section, key = path if len(path) == 2 else ("", path[0])
            known = _KEYS.get(section)
            if known is not None and key in known:
                name = f"{section}_{key}" if section in ("kafka", "redis") else key
                settings[name] = value.split(",") if name == "outputs" and isinstance(value, str) else value
        bootstrap = ",".join(map(str, kafka)) if isinstance(kafka, list) else str(kafka)
        return cls.of(bootstrap, None if redis is None else str(redis), settings, strict=False)


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdecimal() and 0 < int(port) < 65_536


_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "kafka": frozenset(KafkaConnection.__struct_fields__) - {"bootstrap"},
    "redis": frozenset(RedisConnection.__struct_fields__) - {"url"},
    "": frozenset({"prefix"}),
    OWN_SECTION: frozenset(Setup.__struct_fields__) - {"kafka", "redis", "prefix", "token_provider"},
}
