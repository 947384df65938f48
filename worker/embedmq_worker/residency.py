"""Which model is loaded next, and which makes room for it? Pure: values and a clock in, a plan out.

Whoever waits longest for a model that is not in memory comes first. Where there is room, it is loaded at once. Where
there is not, somebody has to go:

* An *idle* model goes, the least recently used first, once the request has waited as long as the load will take.
  Waiting as long as the swap costs is at most twice as bad as knowing the future (ski rental: A. Karlin, M. Manasse,
  L. Rudolph and D. Sleator, "Competitive snoopy caching", Algorithmica 3, 1988), and others for the model gather.
* When the request is older than `model_wait_s`, whoever has no work right now goes, and then those *with work*, the one
  longest in memory first. It has had its turn by then: nobody with work goes before it was in memory for
  `model_wait_s` and has computed a batch.

So a request whose model can be loaded begins to load within `model_wait_s + (a + 1) × (model_wait_s + l + d)`, where
`a` is how many models are asked for that have waited longer, `l` the longest load, and `d` how long a model takes from
its load to its first batch (`choose`) and from its last batch to be gone. In practice idle models make that `l`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

from embedmq_worker.config import Worker
from embedmq_worker.errors import CheckpointTooLarge

State = Literal["absent", "loading", "resident", "leaving"]
LOADS_AT_A_TIME: Final = 2
"""One slow download holds up nobody else's load; more would only share the disk, and measure each other's noise."""
IDLE_AFTER_S: Final = 1.0
"""A model is idle when it has had no work for so long: the moment between two batches of a busy one does not count."""
THRASH_LOADS: Final = 4
THRASH_PERIOD_S: Final = 300.0
FIRST_COOLDOWN_S: Final = 1.0
LONGEST_COOLDOWN_S: Final = 30.0


class View(Struct, frozen=True, kw_only=True):
    """One model as the plan sees it; `bytes` holds weights and workspace, estimated or as measured at its last load.

    `served` says whether it has computed a batch since it was loaded, `dismissed` that it goes once it has no work.
    Until `cools_until_s` it is not tried.
    """

    bytes: int
    state: State = "absent"
    pinned: bool = False
    dismissed: bool = False
    leases: int = 0
    served: bool = True
    last_use_s: float = 0.0
    loaded_at_s: float = 0.0
    load_s: float = 0.0
    cools_until_s: float = 0.0


class Demand(Struct, frozen=True):
    """What waits for one model: when its oldest request arrived, and tokens (0 where they are not counted yet)."""

    model: str
    oldest_s: float
    tokens: int


class Plan(Struct, frozen=True):
    """What to do now; `next_s` is when time alone will change the answer."""

    load: tuple[str, ...] = ()
    evict: tuple[str, ...] = ()
    too_large: tuple[str, ...] = ()
    next_s: float | None = None


def plan(
    models: Mapping[str, View], demands: Sequence[Demand], budget_bytes: int, now_s: float, settings: Worker
) -> Plan:
    """Decide what to load and what to evict. What was evicted takes its bytes until it is `absent`."""
    return _Planning(models, demands, budget_bytes, now_s, settings).run()


class _Planning:
    """One plan in the making: `free` bytes now, `coming` bytes when those that leave are gone."""

    def __init__(
        self, models: Mapping[str, View], demands: Sequence[Demand], budget_bytes: int, now_s: float, settings: Worker
    ) -> None:
        self.models = models
        self.wanted = oldest_first(demands)
        self.now_s = now_s
        self.settings = settings
        self.most = unpinned_bytes(models, budget_bytes)
        held = [view for view in models.values() if not view.pinned and view.state != "absent"]
        self.free = self.most - sum(view.bytes for view in held)
        self.coming = sum(view.bytes for view in held if view.state == "leaving")
        self.load: list[str] = []
        self.evict: list[str] = []
        self.moments: list[float] = []

    def run(self) -> Plan:
        self._mend()
        too_large = [name for name in self.wanted if self._is_too_large(name)]
        slots = LOADS_AT_A_TIME - sum(view.state == "loading" for view in self.models.values())
        for name in self.wanted:
            if slots == 0:
                break
            if name in too_large or name not in self.models or self.models[name].state != "absent":
                continue
            answer = self._admit(name)
            if answer == "stuck":
                break
            slots -= answer == "claimed"
        self._retire()
        later = [moment for moment in self.moments if moment > self.now_s]
        return Plan(tuple(self.load), tuple(self.evict), tuple(too_large), min(later, default=None))

    def _admit(self, name: str) -> Literal["claimed", "later", "stuck"]:
        """Load a model or make room for it; `stuck`: it has waited too long for anybody to overtake it."""
        view, oldest_s = self.models[name], self.wanted[name]
        if self._is_later(view.cools_until_s):
            return "later"
        if view.pinned or view.bytes <= self.free:
            self.load.append(name)
            self.free -= 0 if view.pinned else view.bytes
            return "claimed"
        wait_s = self.settings.model_wait_s
        missing = view.bytes - self.free - self.coming
        if missing > 0 and self._is_later(oldest_s + min(view.load_s, wait_s)):
            return "later"
        forced = missing > 0 and not self._is_later(oldest_s + wait_s)
        victims = [*self._resting(), *self._busy()] if forced else self._idle()
        if missing > 0 and not self._make_room(missing, victims):
            return "stuck" if forced else "later"
        left = self.free + self.coming - view.bytes
        self.free = min(self.free, left)
        self.coming = left - self.free
        return "claimed"

    def _make_room(self, missing: int, victims: Iterable[str]) -> bool:
        """Evict the first of them that suffice; nobody if all of them would not."""
        chosen: list[str] = []
        freed = 0
        for name in victims:
            if freed >= missing:
                break
            chosen.append(name)
            freed += self.models[name].bytes
        if freed < missing:
            return False
        for name in reversed(chosen[:-1]):  # the last was needed; a large one may have made a small one needless
            if freed - self.models[name].bytes >= missing:
                chosen.remove(name)
                freed -= self.models[name].bytes
        self.evict += chosen
        self.coming += freed
        return True

    def _idle(self) -> list[str]:
        """Those that have had no work for a while, the least recently used first."""
        return [name for name in self._resting() if not self._is_later(self.models[name].last_use_s + IDLE_AFTER_S)]

    def _resting(self) -> list[str]:
        """Those that have no work right now, the least recently used first.

        One that was loaded for work which it never began may get it yet: it is given as long as those with work.
        """
        without = [name for name in self._removable() if name not in self.wanted and not self.models[name].leases]
        return [name for name in self._by_use(without) if self.models[name].served or not self._in_turn(name)]

    def _busy(self) -> list[str]:
        """Those that may go although there is work for them, the longest in memory first."""
        busy = [name for name in self._removable() if name in self.wanted or self.models[name].leases]
        busy.sort(key=lambda name: self.models[name].loaded_at_s)
        return [name for name in busy if self.models[name].served and not self._in_turn(name)]

    def _in_turn(self, name: str) -> bool:
        return self._is_later(self.models[name].loaded_at_s + self.settings.model_wait_s)

    def _removable(self) -> list[str]:
        return [
            name
            for name, view in self.models.items()
            if view.state == "resident" and not view.pinned and name not in self.evict
        ]

    def _by_use(self, names: Iterable[str]) -> list[str]:
        return sorted(names, key=lambda name: self.models[name].last_use_s)

    def _mend(self) -> None:
        """A model was larger than estimated: whoever is least missed goes, at the worst the new one itself."""
        if self.free + self.coming < 0:
            rest = [name for name in self._by_use(self._removable()) if not self.models[name].leases]
            order = [*self._idle(), *rest, *self._by_use(self._removable())]
            self._make_room(-self.free - self.coming, dict.fromkeys(order))

    def _retire(self) -> None:
        """Evict what is dismissed and has no work, and what has been idle for `idle_evict_s`."""
        self.evict += [
            name
            for name in self._removable()
            if self.models[name].dismissed and name not in self.wanted and not self.models[name].leases
        ]
        if self.settings.idle_evict_s is not None:
            for name in self._idle():
                if not self._is_later(self.models[name].last_use_s + self.settings.idle_evict_s):
                    self.evict.append(name)
            for name in self._removable():
                self._is_later(self.models[name].last_use_s + max(IDLE_AFTER_S, self.settings.idle_evict_s))

    def _is_too_large(self, name: str) -> bool:
        view = self.models.get(name)
        return view is not None and view.state == "absent" and not view.pinned and view.bytes > self.most

    def _is_later(self, moment_s: float) -> bool:
        """Whether a moment is still to come; if so, it is one to plan anew."""
        if moment_s > self.now_s:
            self.moments.append(moment_s)
        return moment_s > self.now_s


def oldest_first(demands: Iterable[Demand]) -> dict[str, float]:
    """When the oldest request for each model arrived, in order of age."""
    oldest_s: dict[str, float] = {}
    for demand in sorted(demands, key=lambda demand: demand.oldest_s):
        oldest_s.setdefault(demand.model, demand.oldest_s)
    return oldest_s


def unpinned_bytes(models: Mapping[str, View], budget_bytes: int) -> int:
    """What the pinned models leave of the budget."""
    return budget_bytes - sum(view.bytes for view in models.values() if view.pinned)


def misfits(models: Mapping[str, View], budget_bytes: int) -> list[str]:
    """The pinned models for which the budget has no room beside the other pinned ones; those in memory come first."""
    found: list[str] = []
    pinned = [name for name, view in models.items() if view.pinned]
    for name in sorted(pinned, key=lambda name: models[name].state == "absent"):
        if models[name].bytes > budget_bytes:
            found.append(name)
        else:
            budget_bytes -= models[name].bytes
    return found


def least_missed(models: Mapping[str, View], demands: Sequence[Demand], besides: str) -> str | None:
    """The least recently used model that has no work, is not pinned and not `besides`: it goes when memory ran out."""
    wanted = oldest_first(demands)
    idle = {
        name: view.last_use_s
        for name, view in models.items()
        if view.state == "resident" and not view.pinned and not view.leases and name not in wanted and name != besides
    }
    return min(idle, key=lambda name: idle[name], default=None)


def check_pinned(models: Mapping[str, View], budget_bytes: int) -> None:
    """Raises:
    CheckpointTooLarge: the pinned models exceed the budget.
    """
    pinned = {name: view.bytes for name, view in models.items() if view.pinned}
    total = sum(pinned.values())
    if total > budget_bytes:
        raise CheckpointTooLarge(
            f"the pinned models {', '.join(sorted(pinned))} take {total} bytes, memory_budget_bytes is {budget_bytes}: "
            "raise it, or pin fewer"
        )


def too_large(model: str, size_bytes: int, most_bytes: int) -> CheckpointTooLarge:
    """Why a model can never be loaded."""
    return CheckpointTooLarge(
        f"{model} takes {size_bytes} bytes, and memory_budget_bytes leaves {most_bytes} beside the pinned models: "
        "raise it, or pin fewer"
    )


def is_thrashing(loads_s: Sequence[float], now_s: float) -> bool:
    """Whether a model was loaded so often of late that the budget is too small for what is asked."""
    return sum(now_s - load_s < THRASH_PERIOD_S for load_s in loads_s) >= THRASH_LOADS


def cooldown_s(failures: int, spread: float) -> float:
    """How long to wait after so many failed loads in a row; `spread` (0 to 1) takes off up to half."""
    return min(LONGEST_COOLDOWN_S, FIRST_COOLDOWN_S * 2.0 ** (failures - 1)) * (1 - spread / 2)
