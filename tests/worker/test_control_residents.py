"""Models in memory follow what is to be served: none is torn from under a batch, none is taken for another."""

from __future__ import annotations

import threading

import pytest
from embedmq_worker.changes import Evicted, Loaded, Repointed
from embedmq_worker.config import Model
from embedmq_worker.served import Changes, Models, diff

from tests.worker.test_residents import FakeOpener, StartResidents, ask, bring, change, start
from tests.worker.world import until

__all__ = ["start"]


def models(*, pinned: str = "", served: str = "ab", wide: str = "") -> Models:
    """Two models; those in `wide` have another checkpoint."""
    return {
        name: Model(checkpoint="null:16" if name in wide else "null:8", pinned=name in pinned, served=name in served)
        for name in "ab"
    }


def steps(*states: Models) -> list[tuple[Changes, Models]]:
    return [(diff(before, after), after) for before, after in zip((models(), *states), states, strict=False)]


async def test_a_repointed_model_finishes_its_batch_goes_and_comes_back_as_the_other(start: StartResidents) -> None:
    """The lease keeps the old one; nobody gets it any more; what waits is told to begin anew before the new one."""
    opener = FakeOpener({"a": 1, "b": 1})
    residents = start(opener)
    await bring(residents, "a")
    lease = residents.lease("a")
    residents.follow(*steps(models(wide="a"))[0])
    assert residents.engine("a") is None
    assert not opener.engines["a"][0].closed
    ask(residents, "a")
    with lease:
        pass
    assert [type(await change(residents)) for _ in range(3)] == [Evicted, Repointed, Loaded]
    assert opener.engines["a"][0].closed
    assert residents.engine("a") is opener.engines["a"][1]


async def test_a_model_that_is_repointed_while_it_loads_is_not_taken(start: StartResidents) -> None:
    """What was on its way is closed, and the other one loaded."""
    opener = FakeOpener({"a": 1, "b": 1})
    opener.gates["a"] = threading.Event()
    residents = start(opener)
    ask(residents, "a")
    await until(lambda: opener.calls["a"] == 1, "it loads")
    residents.follow(*steps(models(wide="a"))[0])
    opener.gates["a"].set()
    assert isinstance(await change(residents), Repointed)
    assert isinstance(await change(residents), Loaded)
    assert opener.engines["a"][0].closed
    assert residents.engine("a") is opener.engines["a"][1]


@pytest.mark.parametrize("seated", [True, False])
async def test_a_checkpoint_that_cannot_be_closed_does_not_keep_the_other_from_coming(
    start: StartResidents, seated: bool
) -> None:
    """In memory, or on its way there when it is re-pointed: what it holds is lost, and nothing else is."""
    opener = FakeOpener({"a": 1, "b": 1})
    opener.stuck.add("a")
    opener.gates["a"] = threading.Event()
    residents = start(opener)
    ask(residents, "a")
    await until(lambda: opener.calls["a"] == 1, "it loads")
    if seated:
        opener.gates["a"].set()
        await change(residents)
    residents.follow(*steps(models(wide="a"))[0])
    opener.gates["a"].set()
    while not isinstance(await change(residents), Loaded):
        pass
    assert opener.engines["a"][0].closed
    assert residents.engine("a") is opener.engines["a"][1]
    opener.engines["a"][1].stuck = False


async def test_a_model_that_was_repointed_is_nobodys_until_that_is_taken_up(start: StartResidents) -> None:
    """It may be loaded by then: what waits for the device was prepared by the one before."""
    opener = FakeOpener({"a": 1, "b": 1})
    residents = start(opener)
    await bring(residents, "a")
    residents.follow(*steps(models(wide="a"))[0])
    await until(lambda: residents.states()["a"].state == "absent", "the one before is gone")
    ask(residents, "a")
    await until(lambda: residents.states()["a"].state == "resident", "the other is there")
    while not isinstance(await change(residents), Repointed):
        assert residents.engine("a") is None
    assert residents.engine("a") is None
    assert isinstance(await change(residents), Loaded)
    assert residents.engine("a") is opener.engines["a"][1]


async def test_a_model_that_is_served_no_more_goes_when_what_waits_for_it_is_done(start: StartResidents) -> None:
    """Not before, whether or not there is need of its memory."""
    opener = FakeOpener({"a": 1, "b": 1})
    residents = start(opener, budget_bytes=9)
    await bring(residents, "a")
    ask(residents, "a")
    residents.follow(*steps(models(served="b"))[0])
    assert residents.engine("a") is not None
    with residents.lease("a"):
        residents.demand([])
        assert residents.engine("a") is not None
    assert isinstance(await change(residents), Evicted)


@pytest.mark.parametrize("room", [True, False])
async def test_a_pin_loads_a_model_where_there_is_room_beside_the_other_pins(start: StartResidents, room: bool) -> None:
    """Where there is none it is served like any other, and its state says why; unpinned, it may go."""
    opener = FakeOpener({"a": 2, "b": 2})
    residents = start(opener, budget_bytes=4 if room else 3, pinned=["b"])
    await residents.load_pinned()
    assert isinstance(await change(residents), Loaded)
    (pin, unpin) = steps(models(pinned="ab"), models(pinned="b"))
    residents.follow(*pin)
    if room:
        assert (await change(residents)).model == "a"
        residents.follow(*unpin)
        assert not residents.states()["a"].pinned
    else:
        await until(lambda: "memory_budget_bytes" in residents.states()["a"].error, "its state says why")
        assert residents.engine("b") is not None
        residents.follow(*unpin)
        assert residents.states()["a"].error == ""
