"""How are topics, consumer groups and Redis keys called?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from embedmq_schemas.requests import LANES, Lane

Reader = Literal["interactive", "bulk", "retry"]
READERS: Final[tuple[Reader, ...]] = ("interactive", "bulk", "retry")
"""What one consumer group reads: a lane, or what is tried again."""

RESERVED_SLUGS: Final = frozenset({"shared", "retry", "dead", "control"})
STREAM_FIELD: Final = b"r"
"""The one field of an entry on a reply stream: a MessagePack array of results."""

ID_LENGTH: Final = 128
TOPIC_PATTERN: Final = "[A-Za-z0-9._-]{1,249}"
_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ID: Final = re.compile(rf"[A-Za-z0-9._:/-]{{1,{ID_LENGTH}}}")
_TOPIC: Final = re.compile(TOPIC_PATTERN)
_PREFIX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def is_model_name(name: str) -> bool:
    """Whether `name` can be a model: lower-case letters, digits and dashes, and no word that topics need."""
    return _SLUG.fullmatch(name) is not None and name not in RESERVED_SLUGS


def is_id(text: str) -> bool:
    """Whether `text` can be a request's id (or a client's)."""
    return _ID.fullmatch(text) is not None


def is_topic(text: str) -> bool:
    """Whether Kafka allows `text` as the name of a topic."""
    return _TOPIC.fullmatch(text) is not None and text not in {".", ".."}


def is_prefix(text: str) -> bool:
    """Whether `text` can begin every topic, group and key: no dot and no colon, since those divide what follows."""
    return _PREFIX.fullmatch(text) is not None


def spell(delay_s: int) -> str:
    """A delay as topics are called by it: `10s`, `5m`, `2h`."""
    for unit, seconds in (("h", 3600), ("m", 60)):
        if delay_s % seconds == 0:
            return f"{delay_s // seconds}{unit}"
    return f"{delay_s}s"


@dataclass(frozen=True, slots=True)
class Names:
    """Every name in Kafka and Redis, from one prefix."""

    prefix: str = "embedmq"

    def requests(self, model: str, lane: Lane) -> str:
        """The topic of one model and lane."""
        return f"{self.prefix}.{model}.{lane}"

    def shared(self, lane: Lane) -> str:
        """The topic of all models too rare for a topic of their own; its record key is the model."""
        return f"{self.prefix}.shared.{lane}"

    @property
    def dead(self) -> str:
        """The topic of dead letters."""
        return f"{self.prefix}.dead"

    @property
    def control(self) -> str:
        """The compacted topic that says which models are served and pinned; its record key is the model."""
        return f"{self.prefix}.control"

    def retry(self, delay_s: int) -> str:
        """The topic of requests that are tried again after one fixed delay: `<prefix>.retry.10s`, `….5m`."""
        return f"{self.prefix}.retry.{spell(delay_s)}"

    def is_retry(self, topic: str) -> bool:
        """Whether a topic holds requests that are tried again: only there do the headers of workers count."""
        return topic.startswith(f"{self.prefix}.retry.")

    def group(self, lane: Reader) -> str:
        """The consumer group that reads one lane, or the retry topics."""
        return f"{self.prefix}.{lane}"

    def starts(self, topic: str, partition: int) -> str:
        """How often a process died with one record of a partition; one group reads each topic, so it is not named."""
        return f"{self.prefix}:starts:{topic}:{partition}"

    def stream(self, client: str) -> str:
        """The reply stream of one client."""
        return f"{self.prefix}:replies:{client}"

    def result(self, id: str) -> str:
        """The kept result of one request."""
        return f"{self.prefix}:result:{id}"

    def stub(self, id: str) -> str:
        """The mark that a request was submitted; outlives the result, so that `expired` and `unknown` differ."""
        return f"{{{self.prefix}:result:{id}}}:stub"

    def cancel(self, id: str) -> str:
        """The mark that a request is no longer wanted."""
        return f"{{{self.prefix}:result:{id}}}:cancel"

    def model(self, model: str) -> str:
        """The catalogue entry of one model."""
        return f"{self.prefix}:model:{model}"

    def cached(self, place: int) -> str:
        """One place of the content cache: whatever was put there last."""
        return f"{self.prefix}:cache:{place}"

    def quota(self, tenant: str) -> str:
        """What a tenant had computed of late."""
        return f"{self.prefix}:quota:{tenant}"

    def worker(self, worker: str) -> str:
        """The status of one worker."""
        return f"{self.prefix}:worker:{worker}"

    def job(self, job: str) -> str:
        """What a bulk job says of itself."""
        return f"{self.prefix}:job:{job}"

    def job_holder(self, job: str) -> str:
        """Which process runs a bulk job."""
        return f"{{{self.prefix}:job:{job}}}:holder"

    def job_wish(self, job: str) -> str:
        """What somebody wants of a bulk job: that it pauses, goes on or ends."""
        return f"{{{self.prefix}:job:{job}}}:wish"

    def parse(self, topic: str) -> tuple[str | None, Lane] | None:
        """Read a request topic back: its model (None on a shared topic) and lane; None for any other topic."""
        return _parse(self.prefix, topic)


@lru_cache(maxsize=4096)
def _parse(prefix: str, topic: str) -> tuple[str | None, Lane] | None:
    """Asked for every record, answered once a topic."""
    head, _, lane = topic.rpartition(".")
    for known in LANES:
        if lane == known and head.startswith(prefix + "."):
            model = head[len(prefix) + 1 :]
            if model == "shared":
                return None, known
            return (model, known) if is_model_name(model) else None
    return None
