"""What is served follows from the file and the last order of each model, whatever came before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

from embedmq_schemas.control import Order, encode_order
from embedmq_worker.config import Config, Kafka, Model, Worker
from embedmq_worker.house import Configured
from embedmq_worker.orders import Orders, heed
from embedmq_worker.residency import View, misfits, plan
from embedmq_worker.roster import Roster
from embedmq_worker.served import Changes, Models, Served, diff, overlay, pinned_by_order
from embedmq_worker.steering import stay, unlike
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct, structs


class Said(Struct, frozen=True):
    """A record of the control topic."""

    offset: int
    key: bytes | None
    value: bytes | None


NAMES = ("a", "b", "c")
ORDERS = st.builds(
    Order,
    served=st.none() | st.booleans(),
    pinned=st.none() | st.booleans(),
    entry=st.none() | st.sampled_from([*NAMES, "nowhere"]),
)
MODELS = st.dictionaries(
    st.sampled_from(NAMES),
    st.builds(
        Model,
        checkpoint=st.sampled_from(["null:8", "null:16"]),
        served=st.booleans(),
        pinned=st.booleans(),
        shared=st.booleans(),
        max_tokens=st.none() | st.just(9),
    ),
)
KEYED = st.tuples(st.sampled_from(NAMES), st.none() | ORDERS)


def said(orders: Sequence[tuple[str, Order | None]]) -> list[Said]:
    """Orders as Kafka keeps them."""
    return [
        Said(offset, name.encode(), None if order is None else encode_order(order))
        for offset, (name, order) in enumerate(orders)
    ]


def after(records: Sequence[Said], start: Orders | None = None) -> Orders:
    return reduce(heed, records, start or Orders())


def follow(state: dict[str, Model], changes: Changes, target: Models) -> dict[str, Model]:
    """Do what `diff` says and nothing else, as a worker does."""
    found = {name: model for name, model in state.items() if name not in changes.removed}
    found |= {name: target[name] for name in changes.added}
    for name in changes.repointed:
        mine = found[name]
        found[name] = structs.replace(target[name], served=mine.served, pinned=mine.pinned, shared=mine.shared)
    for names, field, value in (
        (changes.pinned, "pinned", True),
        (changes.unpinned, "pinned", False),
        (changes.served, "served", True),
        (changes.unserved, "served", False),
    ):
        for name in names & found.keys():
            found[name] = structs.replace(found[name], **{field: value})
    return found


def shown(models: Mapping[str, Model]) -> dict[str, Model]:
    """Less what is a matter of topics, which are compared as such."""
    return {name: structs.replace(model, shared=False) for name, model in models.items()}


@given(st.lists(KEYED, max_size=12), st.lists(MODELS, min_size=1, max_size=4), st.randoms())
def test_any_sequence_of_orders_and_files_ends_as_the_last_of_each(
    orders: list[tuple[str, Order | None]], files: list[Models], random: object
) -> None:
    """One change after the other, as they came, ends where the last file and the last order of each model are: so do
    all workers, also one that starts later."""
    records = said(orders)
    heeded, state = Orders(), dict(files[0])
    for number in range(max(len(records), len(files))):
        heeded = heed(heeded, records[number]) if number < len(records) else heeded
        target = overlay(files[min(number, len(files) - 1)], heeded).models
        state = follow(state, diff(state, target), target)
    last = dict(zip((name for name, _ in orders), records, strict=True))
    late = overlay(files[-1], after(sorted(last.values(), key=lambda record: record.offset)))
    assert shown(state) == shown(late.models)
    assert overlay(files[-1], heeded) == late


@given(st.lists(KEYED, max_size=8), st.integers(0, 8))
def test_what_is_read_again_changes_nothing(orders: list[tuple[str, Order | None]], back: int) -> None:
    """Records up to the one that was heeded last, in any number: an old one after a new one is none."""
    records = said(orders)
    once = after(records)
    assert after(records[back:], once) == once


@given(MODELS, st.lists(KEYED, max_size=8))
def test_orders_choose_among_the_configured_checkpoints_and_bring_none(
    models: Models, orders: list[tuple[str, Order | None]]
) -> None:
    """No model is there that the file lacks, and none has a checkpoint that the file does not list; what topic a model
    is asked on is the file's business alone."""
    served = overlay(models, after(said(orders)))
    assert served.models.keys() == models.keys()
    for name, model in served.models.items():
        assert model.checkpoint in {listed.checkpoint for listed in models.values()}
        assert model.shared == models[name].shared


def test_of_two_orders_that_contradict_each_other_the_later_in_the_log_counts() -> None:
    """Whatever their clocks said when they were issued."""
    models = {"a": Model(checkpoint="null:8")}
    first, second = Order(served=False, issued_unix_ms=9_000), Order(served=True, issued_unix_ms=1)
    assert overlay(models, after(said([("a", first), ("a", second)]))).models["a"].served
    assert not overlay(models, after(said([("a", second), ("a", first)]))).models["a"].served


def test_an_order_that_cannot_be_followed_is_refused_as_a_whole_and_says_why() -> None:
    """Not on the list, or an entry that is not: the model is served as the file says."""
    models = {"a": Model(checkpoint="null:8", served=False), "b": Model(checkpoint="null:16")}
    orders = after(said([("a", Order(served=True, entry="nowhere")), ("c", Order(served=True))]))
    found = overlay(models, orders)
    assert found.models == models
    assert found.refused == {"a": "there is no entry 'nowhere' here", "c": "it is not configured here"}
    assert overlay(models | {"nowhere": Model(checkpoint="null:4")}, orders).models["a"].checkpoint == "null:4"


def test_what_is_no_order_leaves_the_last_one_in_force_and_is_told() -> None:
    """Broken bytes, an unknown field, a key that is no model's name; one line each, of bounded length."""
    good = Said(0, b"a", encode_order(Order(pinned=True)))
    for number, (key, value) in enumerate(
        [(b"a", b"\xff{"), (b"a", b'{"checkpoint": "hf:x/y"}'), (b"a", b'{"pinned": "' + b"x" * 9_000 + b'"}')]
    ):
        orders = after([good, Said(number + 1, key, value)])
        assert orders.last["a"].pinned
        assert "\n" not in orders.broken["a"]
        assert len(orders.broken["a"]) < 200
        assert after([Said(9, b"a", encode_order(Order()))], orders).broken == {}
    for nobody in (None, b"\xff", b"no name", b"control", b"x" * 9_000):
        orders = after([good, Said(1, nobody, b"{}")])
        assert list(orders.last) == ["a"]
        (shown_key,) = orders.broken
        assert len(shown_key) < 300


def test_a_tombstone_gives_the_model_back_to_the_file() -> None:
    """All of it: served, pinned and entry."""
    models = {"a": Model(checkpoint="null:8"), "b": Model(checkpoint="null:16", served=False)}
    orders = after(said([("a", Order(served=False, pinned=True, entry="b")), ("a", None)]))
    assert overlay(models, orders) == Served(models)


def test_what_left_the_file_stays_known_until_it_is_finished() -> None:
    """It is served no more, and may still be loaded for what was read of it."""
    before = {"a": Model(checkpoint="null:8"), "b": Model(checkpoint="null:16")}
    roster = Roster(Served(before))
    roster.become(Served({"a": before["a"]}))
    assert roster["b"].checkpoint == "null:16"
    assert not roster.serves("b")
    assert set(roster) == {"a", "b"}
    assert len(roster) == 2
    roster.forget()
    assert set(roster) == set(roster.models) == {"a"}
    assert "b" not in roster
    opened = Configured(roster, "cpu").load("b")
    assert opened.facts.dimensions == 16, "requests for it may have come with those of other models, and still wait"


def test_a_start_waits_for_what_the_file_pins_whatever_was_ordered_of_it_beside() -> None:
    """Else each worker that was restarted would be ready cold, months after an order that changed nothing. What only an
    order pins, or with another checkpoint, is not waited for: it may not fit."""
    models = {name: Model(checkpoint="null:8", pinned=name == "a") for name in "ab"}
    for order in (Order(served=True), Order(pinned=True, entry="a"), Order()):
        assert pinned_by_order(models, after(said([("a", order)]))) == set()
    others = [("a", Order(entry="b")), ("b", Order(pinned=True)), ("elsewhere", Order(pinned=True))]
    assert pinned_by_order(models, after(said(others))) == {"a", "b", "elsewhere"}


def test_settings_that_need_a_restart_are_named_as_the_file_calls_them() -> None:
    """Models do not, unless they move to other topics."""
    before = Config(models={"a": Model(checkpoint="null:8")})
    later = Config(
        prefix="other", kafka=Kafka(partitions=3), worker=Worker(max_batch_ms=9, guard_failures=2), models={}
    )
    assert unlike(before, before) == []
    assert unlike(before, later) == ["prefix", "kafka.partitions", "worker.guard_failures", "worker.max_batch_ms"]
    shared = Config(models={name: Model(checkpoint="null:16", shared=True) for name in "ab"})
    assert unlike(before, shared) == ["models.a.shared"]


@given(MODELS, MODELS)
def test_a_model_stays_on_its_topics_until_a_restart(before: Models, after: Models) -> None:
    """Clients, whoever is read and what is accepted where go together: all else of the file is followed, and a model
    that is new is where the file says."""
    found = stay(before, after)
    assert shown(found) == shown(after)
    assert {name: model.shared for name, model in found.items()} == {
        name: before.get(name, model).shared for name, model in after.items()
    }


def test_a_dismissed_model_goes_when_it_has_no_work_and_a_pin_needs_room_beside_the_other_pins() -> None:
    """At once if nothing waits for it; who is in memory keeps its pin against who is not."""
    idle = View(bytes=1, state="resident", dismissed=True, last_use_s=0.0)
    models = {"idle": idle, "busy": structs.replace(idle, leases=1)}
    assert plan(models, [], 10, 0.0, Worker()).evict == ("idle",)
    pins = {"new": View(bytes=6, pinned=True), "old": View(bytes=6, pinned=True, state="resident")}
    assert misfits(pins, 10) == ["new"]
    assert misfits(pins, 12) == []
