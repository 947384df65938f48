"""May one more request wait for a model that is away, and what becomes of those that may not?"""

from __future__ import annotations

import time
from collections.abc import Callable

from embedmq_worker.absent import Absent
from embedmq_worker.engine.seam import Fault
from embedmq_worker.jobs import Ending, Job
from embedmq_worker.progress import Progress
from embedmq_worker.retry import Retries


class Crowd:
    """Where too many wait, a topic of the model's own is read no further for a while. In one of several models those
    behind must not wait, so further requests are parked in a retry topic.
    """

    def __init__(
        self,
        absent: Absent,
        retries: Retries,
        shared_topics: frozenset[str],
        max_waiting: int,
        is_away: Callable[[str], bool],
        is_paused: Callable[[str], bool],
    ) -> None:
        """`shared_topics` are those of several models, the retry topics among them; `max_waiting` is how many of one of
        their partitions may wait for the same model. `is_away` says of a model that its requests wait, `is_paused` that
        they do because it fails.
        """
        self._absent = absent
        self._retries = retries
        self._shared_topics = shared_topics
        self._max_waiting = max_waiting
        self._is_away = is_away
        self._is_paused = is_paused
        self._held: dict[Progress, str] = {}

    def refuses(self, job: Job) -> bool:
        """Whether too many wait for its model already, in all or of its partition."""
        model = job.envelope.model
        if not self._is_away(model):
            return False
        shares = self._shares(job)
        full = shares and self._absent.count_of(job.progress, model) >= self._max_waiting
        # a suspect would hold up its partition until its model goes on
        return full or (shares and job.suspect and self._is_paused(model)) or self._absent.full(model)

    def turn_away(self, job: Job) -> Ending | None:
        """Park a job; None where its partition is held instead, and the job is to be read again."""
        if not self._shares(job):
            self._hold(job)
            return None
        fault = Fault("model_unavailable", f"{job.envelope.model} is not in memory, and many wait for it")
        return self._retries.park(job, fault, time.time() * 1000)

    def joined(self, job: Job) -> None:
        """A job waits now: if it was the last that may, no more is read of its partition."""
        if self._absent.full(job.envelope.model) and not self._shares(job):
            self._hold(job)

    def release(self) -> None:
        """Have partitions read on whose models are there now, or are not waited for by too many any more."""
        for progress, model in list(self._held.items()):
            if progress.revoked or not self._is_away(model) or not self._absent.full(model):
                progress.release("model")
                del self._held[progress]

    def _shares(self, job: Job) -> bool:
        return job.record.topic in self._shared_topics

    def _hold(self, job: Job) -> None:
        job.progress.hold("model")
        self._held[job.progress] = job.envelope.model
