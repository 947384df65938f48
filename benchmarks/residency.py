"""Twenty models, room for five: what do the order of work and the choice of victims cost?

On a simulated clock (`simulation`), so a run takes seconds and says the same on every machine.

The baseline is what a plain server does: requests are served in the order in which they came, batched with others for
the same model, and the device waits while the model of the oldest one is loaded; the one that makes room is the one
loaded longest ago, since models are touched when they are loaded. A second baseline evicts likewise, but loads beside
the device: what is left of the difference is the planner's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from embedmq_worker.config import Worker
from embedmq_worker.residency import LOADS_AT_A_TIME, Demand, Plan, View, plan

from benchmarks.harness import Scale
from benchmarks.place import Place
from benchmarks.report import Row, Run, row
from benchmarks.simulation import Outcome, simulate

SEEDS: Final = (1, 2, 3)
PLAIN: Final = "first come, first served, and the model loaded longest ago makes room"
BESIDE: Final = "the same, but models load beside the device, which goes on with what is in memory"


def zipf(place: Place, scale: Scale) -> list[Row]:
    """Loads, texts a second until all are computed, and how long the slowest hundredth of the requests took."""
    del scale  # it takes no time that could be saved
    settings = Worker()
    ours = [simulate(seed, plan, settings, in_order=False) for seed in SEEDS]
    plain = [simulate(seed, plain_plan, settings, in_order=True) for seed in SEEDS]
    beside = [simulate(seed, plain_plan, settings, in_order=False) for seed in SEEDS]
    for side, outcomes in (("ours", ours), ("plain", plain), ("plain, loading beside", beside)):
        place.say(f"  {side}: {outcomes}")
    overdue = sum(outcome.overdue for outcome in ours)
    if overdue:
        raise RuntimeError(f"{overdue} requests took longer than the settings allow")
    bound = f"s (bound: {min(outcome.bound_s for outcome in ours):.0f} or more; none took longer)"
    return [
        row("residency.zipf_loads", "loads", "lower", _runs(ours, plain, _loads), PLAIN),
        row("residency.zipf_loads_vs_loading_beside", "loads", "lower", _runs(ours, beside, _loads), BESIDE),
        row("residency.zipf_throughput", "texts/s", "higher", _runs(ours, plain, _rate), PLAIN),
        row("residency.zipf_p99_age_s", bound, "lower", _runs(ours, plain, _age_s), PLAIN),
    ]


def plain_plan(
    models: Mapping[str, View], demands: Sequence[Demand], budget_bytes: int, now_s: float, settings: Worker
) -> Plan:
    """Load what is asked for, in order of age; whoever was loaded longest ago makes room at once. Sizes are 1."""
    del now_s, settings  # it knows no time
    held = [view for view in models.values() if view.state != "absent"]
    room = budget_bytes - len(held)
    coming = sum(view.state == "leaving" for view in held)
    slots = LOADS_AT_A_TIME - sum(view.state == "loading" for view in held)
    removable = [name for name, view in models.items() if view.state == "resident" and not view.leases]
    removable.sort(key=lambda name: models[name].loaded_at_s, reverse=True)
    wanted = sorted((demand for demand in demands if models[demand.model].state == "absent"), key=_oldest_s)[:slots]
    load = [demand.model for demand in wanted[: max(0, room)]]
    missing = len(wanted) - len(load) - coming
    return Plan(tuple(load), tuple(removable.pop() for _ in range(min(missing, len(removable)))))


def _oldest_s(demand: Demand) -> float:
    return demand.oldest_s


def _runs(ours: Sequence[Outcome], others: Sequence[Outcome], figure: Callable[[Outcome], float]) -> list[Run]:
    return [Run(figure(mine), figure(other)) for mine, other in zip(ours, others, strict=True)]


def _loads(outcome: Outcome) -> float:
    return outcome.loads


def _rate(outcome: Outcome) -> float:
    return outcome.texts_per_s


def _age_s(outcome: Outcome) -> float:
    return outcome.p99_age_s
