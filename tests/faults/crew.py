"""Who works at a site, and how do they die? Real processes, started, watched and struck."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from embedmq_local.worker import Worker
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.diary import Diaries, Life
from tests.faults.switches import Switches

if TYPE_CHECKING:
    from tests.faults.site import Site

ROOT: Final = Path(__file__).parents[2]
KEPT: Final = ROOT / "build" / "faults"
"""Where diaries and logs of failed rows are."""
READY_S: Final = 100.0
BUSY_S: Final = 60.0
REST_S: Final = 30.0
DEATH_LOOK_S: Final = 0.05


class Strike(Struct):
    """One fault, and what was open when it struck."""

    kind: str
    open: list[str]
    hit: bool
    """Whether a batch was on a device, or work waited for one, when it struck."""
    healed_ns: int = 0


class Crew:
    """The workers of one site."""

    def __init__(self, site: Site, folder: Path, config: Path, plant: str) -> None:
        self.workers: list[Worker] = []
        self.diaries = Diaries(folder)
        self.switches = Switches(folder)
        self.interruptions = 0
        """How often a worker lost what it had in flight, or may have."""
        self.window_items = 128 + 2 * 8
        """What one may have in flight: what it holds, and two batches that have just been let go."""
        self._site = site
        self._folder = folder
        self._config = config
        self._plant = plant
        self._strikes: list[Strike] = []

    @property
    def running(self) -> list[Worker]:
        """Those that live now."""
        return [worker for worker in self.workers if worker.running]

    async def hire(self, count: int = 1, *, ready: bool = True, env: Mapping[str, str] | None = None) -> Worker:
        """Start workers; the last one is returned."""
        fresh = [self._start(env or {}) for _ in range(count)]
        self.workers += fresh
        if ready:
            await self.ready(*fresh)
        return fresh[-1]

    async def ready(self, *workers: Worker) -> None:
        """Until they have joined the groups."""
        await asyncio.gather(*(asyncio.to_thread(worker.wait_ready, READY_S) for worker in workers))

    async def again(self, worker: Worker, *, ready: bool = True) -> None:
        """Start one that has died."""
        await asyncio.to_thread(worker.spawn)
        if ready:
            await self.ready(worker)

    async def busy(self, *workers: Worker) -> bool:
        """Until one of these (or any) has a batch on its device."""
        pids = [worker.pid for worker in workers or self.running]
        return await self._site.until(lambda: bool(self.diaries.busy(pids)), "a batch on a device", BUSY_S)

    async def busy_one(self) -> Worker:
        """One that has a batch on its device."""
        await self.busy()
        return self._site.rng.choice(self._busy_ones() or self.running)

    def _busy_ones(self) -> list[Worker]:
        return [worker for worker in self.running if self.diaries.busy([worker.pid])]

    @contextlib.asynccontextmanager
    async def strike(self, kind: str, *, interrupts: int = 1, busy: bool = True) -> AsyncIterator[Strike]:
        """A fault, from its beginning to its end; with `busy`, waits until something is in flight to be hit."""
        if busy:
            await self.busy()
        hit = bool(self.diaries.busy([worker.pid for worker in self.running]))
        strike = Strike(kind, self._site.open, hit)
        self.interruptions += interrupts
        yield strike
        strike.healed_ns = time.monotonic_ns()
        self._count(strike)

    async def kill(self, *workers: Worker, number: int = signal.SIGKILL, kind: str = "worker kill -9") -> None:
        """Kill each at a moment of its own while it has a batch on its device."""
        await asyncio.gather(*(self._kill(worker, number, kind) for worker in workers))

    async def terminate(self, worker: Worker, kind: str = "worker SIGTERM") -> int:
        """Stop one in good order while it is busy; the exit code."""
        async with self.strike(kind, interrupts=len(self.running)):
            return await asyncio.to_thread(worker.stop)

    @contextlib.asynccontextmanager
    async def kept_alive(self, *workers: Worker) -> AsyncIterator[Counter[int]]:
        """Whoever dies is started again at once, as a supervisor would; counts exit codes."""
        codes: Counter[int] = Counter()
        over = asyncio.Event()
        keeping = [asyncio.create_task(self._keep(worker, codes, over)) for worker in workers]
        try:
            yield codes
        finally:
            over.set()
            await asyncio.gather(*keeping)

    async def ended(self, worker: Worker, timeout_s: float = 60.0) -> int | None:
        """Until it has died by itself; its exit code."""
        assert worker.process is not None
        return await asyncio.to_thread(worker.process.wait, timeout_s)

    def events(self, worker: Worker, name: str) -> list[str]:
        """Lines of its log with this event."""
        return [
            line for line in worker.log.read_text().splitlines() if f'"event":"{name}"' in line.replace('": "', '":"')
        ]

    async def metric(self, worker: Worker, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels; 0 when there are none."""
        text = await asyncio.to_thread(_get, worker.http)
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def held(self, worker: Worker) -> float:
        """How many items one holds when all are answered; one that stood still may learn of that late."""
        end_s = time.monotonic() + REST_S
        while True:
            held = await self.metric(worker, "embedmq_in_flight_items")
            if not held or time.monotonic() > end_s:
                return held
            await asyncio.sleep(DEATH_LOOK_S)

    async def measure(self) -> None:
        """Recovery, idle device and memory, once everything is answered."""
        figures, answered = self._site.figures, self._site.outcomes.answered_ns
        for strike in self._strikes:
            ends = [answered[id] for id in strike.open if id in answered]
            if not ends:
                continue
            seconds = max(0.0, (max(ends) - strike.healed_ns) / 1e9)
            figures.recovery_s.setdefault(strike.kind, []).append(round(seconds, 2))
            first_ns = self.diaries.first_batch_ns(strike.healed_ns)
            if first_ns is not None and max(ends) > first_ns:
                figures.idle_share.append(round(self.diaries.idle_share(first_ns, max(ends)), 3))
        self._strikes.clear()
        for worker in self.running:
            figures.peak_rss_bytes = max(figures.peak_rss_bytes, peak_rss_bytes(worker.pid))

    async def dismiss(self) -> None:
        """End all, whatever they do; what they wrote is kept if the row has failed."""
        if self._site.figures.problems:
            kept = KEPT / self._site.figures.row
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir(parents=True)
            for path in [*self._folder.glob("*.diary"), *(worker.log for worker in self.workers)]:
                shutil.copy(path, kept)
        for worker in self.workers:
            if worker.running:
                await asyncio.to_thread(worker.stop, kill=True)
            worker.close()

    def life(self, pid: int) -> Life:
        """The latest process of this number."""
        return next(life for life in reversed(self.diaries.read()) if life.pid == pid)

    async def _keep(self, worker: Worker, codes: Counter[int], over: asyncio.Event) -> None:
        """A start under way is never cut short: its process would be nobody's."""
        while not over.is_set():
            code = worker.process.poll() if worker.process is not None else None
            if code is None:
                await asyncio.sleep(DEATH_LOOK_S)
                continue
            codes[code] += 1
            self.interruptions += 1
            await self.again(worker, ready=False)

    def _start(self, env: Mapping[str, str]) -> Worker:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        given = {
            "FAULTS_FOLDER": str(self._folder),
            "FAULTS_PLANT": self._plant,
            "PYTHONPATH": path,
            "EMBEDMQ_REDIS": f"redis://{self._site.network.address}/0",
        }
        command: Sequence[str] = (sys.executable, "-m", "tests.faults.worker", "--config", str(self._config))
        return self._site.stack.start_worker(self._config, {**given, **env}, command)

    async def _kill(self, worker: Worker, number: int, kind: str) -> None:
        await self.busy(worker)
        await asyncio.sleep(self._site.rng.uniform(0, 0.08))
        await self.busy(worker)  # between two batches nothing would be shown
        strike = Strike(kind, self._site.open, hit=False)
        self.interruptions += 1
        figures = self._site.figures
        figures.peak_rss_bytes = max(figures.peak_rss_bytes, peak_rss_bytes(worker.pid))
        pid = worker.pid
        os.kill(pid, number)
        await self.ended(worker)
        strike.hit = bool(self.life(pid).on_device)
        strike.healed_ns = time.monotonic_ns()
        self._count(strike)

    def _count(self, strike: Strike) -> None:
        self._site.figures.strikes[strike.kind] += 1
        self._site.figures.in_flight += strike.hit
        self._strikes.append(strike)


def peak_rss_bytes(pid: int) -> int:
    """The most memory a process ever had; 0 when it is gone."""
    with contextlib.suppress(OSError, StopIteration, ProcessLookupError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    return 0


def _get(address: str) -> str:
    import http.client

    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()
