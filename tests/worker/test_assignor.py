"""Partitions stay where their model is in memory, load is spread by tokens, and equal input gives an equal decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random

import msgspec
import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from embedmq_schemas.limits import MIB
from embedmq_worker.affinity import MOST_MOVED, Member, decide
from embedmq_worker.assignor import NAME, Assignor
from embedmq_worker.placing import CANDIDATES, SLACK
from embedmq_worker.standing import USER_DATA_BYTES, Standing, Told, decode, encode
from embedmq_worker.traffic import weights
from embedmq_worker.units import divide
from hypothesis import given, settings
from hypothesis import strategies as st

Decision = Mapping[str, Mapping[str, Sequence[int]]]

MODELS = [f"m{number}" for number in range(12)]
TOPICS = [*(f"p.{model}.interactive" for model in MODELS), "p.shared.interactive", "p.retry.10s", "plain"]
PARTITIONS = st.dictionaries(st.sampled_from(TOPICS), st.integers(0, 9).map(range))
STANDINGS = st.builds(
    Standing,
    tokens_per_s=st.sampled_from([0.0, 100.0, 250.0]),
    memory_bytes=st.sampled_from([0, 3 * MIB, 8 * MIB]),
    resident=st.dictionaries(st.sampled_from(MODELS), st.sampled_from([MIB, 2 * MIB]), max_size=4),
    arriving=st.dictionaries(st.sampled_from([*MODELS, "shared"]), st.floats(0, 1e6), max_size=6),
)
OWNED = st.dictionaries(st.sampled_from(TOPICS), st.lists(st.integers(0, 11), unique=True), max_size=6)
TOLD = st.builds(
    Told, worker=st.sampled_from(["", "w1", "w2"]), standing=STANDINGS, owned=OWNED, round=st.integers(0, 3)
)
MEMBERS = st.dictionaries(
    st.text("mnop", min_size=1, max_size=3),
    st.builds(Member, st.frozensets(st.sampled_from(TOPICS)), TOLD),
    max_size=6,
)


def fleet(
    count: int, topics: Sequence[str], before: Decision | None = None, standings: Mapping[str, Standing] | None = None
) -> dict[str, Member]:
    """Workers that read the same topics, and hold what a decision gave them."""
    return {
        name: Member(
            frozenset(topics),
            Told(
                worker=name,
                standing=(standings or {}).get(name, Standing()),
                owned=(before or {}).get(name, {}),
                round=1 if before else 0,
            ),
        )
        for name in (f"w{number}" for number in range(count))
    }


def owners(decision: Decision) -> dict[tuple[str, int], str]:
    return {(topic, p): name for name, topics in decision.items() for topic, ps in topics.items() for p in ps}


def moved(before: Decision, after: Decision) -> int:
    """Partitions that another worker has now, though who had them is still there."""
    now = owners(after)
    return sum(now[place] != name for place, name in owners(before).items() if name in after)


def homes(decision: Decision) -> dict[str, set[str]]:
    """The workers of each model, or of each topic that is no model's."""
    found: dict[str, set[str]] = {}
    for name, topics in decision.items():
        for topic in topics:
            found.setdefault(topic.split(".")[1], set()).add(name)
    return found


@given(PARTITIONS, MEMBERS)
def test_every_partition_goes_to_one_member_that_reads_its_topic(
    partitions: dict[str, range], members: dict[str, Member]
) -> None:
    """None twice, none to nobody, whatever the members read, hold or tell, whatever is untrue of it."""
    decision = decide(partitions, members)
    assert set(decision) == set(members)
    for topic, wanted in partitions.items():
        given_ = Counter(p for topics in decision.values() for p in topics.get(topic, []))
        read = any(topic in member.topics for member in members.values())
        assert given_ == (Counter(wanted) if read else Counter())
    for name, topics in decision.items():
        assert set(topics) <= members[name].topics


@given(PARTITIONS, MEMBERS, st.randoms(use_true_random=False))
def test_the_decision_does_not_depend_on_the_order_of_members(
    partitions: dict[str, range], members: dict[str, Member], random: Random
) -> None:
    """Any leader decides alike."""
    shuffled = list(members.items())
    random.shuffle(shuffled)
    assert decide(partitions, members) == decide(dict(reversed(partitions.items())), dict(shuffled))


@st.composite
def fleets(draw: st.DrawFn) -> tuple[dict[str, range], dict[str, Member]]:
    """Workers that read the same topics and hold nothing."""
    partitions = {topic: draw(st.integers(1, 9).map(range)) for topic in TOPICS}
    standings = draw(st.dictionaries(st.sampled_from([f"w{n}" for n in range(6)]), STANDINGS))
    return partitions, fleet(draw(st.integers(1, 6)), TOPICS, standings=standings)


@given(fleets())
def test_no_worker_carries_much_more_than_its_share(case: tuple[dict[str, range], dict[str, Member]]) -> None:
    """By tokens, and by what each can compute: at most `1 + SLACK` of it and the heaviest partition."""
    partitions, members = case
    units, standings = divide(partitions), [member.told.standing for member in members.values()]
    weight = {unit.topic: each for unit, each in zip(units, weights(units, standings), strict=True)}
    loads = {
        name: sum(weight[topic] * len(ps) for topic, ps in topics.items())
        for name, topics in decide(partitions, members).items()
    }
    known = [each.tokens_per_s for each in standings if each.tokens_per_s]
    speeds = {
        name: m.told.standing.tokens_per_s or (sum(known) / len(known) if known else 1.0) for name, m in members.items()
    }
    for name, load in loads.items():
        fair = sum(loads.values()) * speeds[name] / sum(speeds.values())
        assert load <= (1 + SLACK) * fair + max(weight.values()) + 1


@settings(max_examples=60)
@given(fleets(), st.integers(0, 5))
def test_when_nothing_has_changed_nothing_moves(case: tuple[dict[str, range], dict[str, Member]], rounds: int) -> None:
    """Whatever the workers see: what was decided once is decided again."""
    partitions, members = case
    first = decide(partitions, members)
    again = {
        name: Member(member.topics, Told(worker=name, standing=member.told.standing, owned=first[name], round=rounds))
        for name, member in members.items()
    }
    assert decide(partitions, again) == first


@pytest.mark.parametrize("topic", ["p.m0.interactive", "p.shared.bulk"])
@pytest.mark.parametrize("speed", [0.0, 724.0, 1_000.0, 1_448.0])
def test_workers_of_one_kind_share_evenly_and_go_on_so(topic: str, speed: float) -> None:
    """Whether they know how fast they are or not yet, and whether one measured a step more than the other: two have
    four of eight partitions each, however often it is decided anew."""
    standings = {
        f"w{number}": Standing(tokens_per_s=each, memory_bytes=9 * MIB, resident={"m0": MIB}, arriving={"m0": 7.0})
        for number, each in enumerate([1_024.0, speed])
    }
    decision: Decision = {}
    for count in (1, 2, 2, 2):
        decision = decide({topic: range(8)}, fleet(count, [topic], decision, standings))
    assert [len(decision[name][topic]) for name in ("w0", "w1")] == [4, 4]


@pytest.mark.parametrize("standing", [Standing(), Standing(tokens_per_s=1_000, arriving={"m0": 9_000.0, "m3": 1.0})])
def test_who_joins_a_pool_gets_a_share_of_what_that_pool_reads(standing: Standing) -> None:
    """However many workers of the group read something else: they can carry nothing of it."""
    pools = {"a": [f"p.m{number}.interactive" for number in range(8)], "b": ["p.m9.interactive"]}
    partitions = {topic: range(8) for topics in pools.values() for topic in topics}
    decision: Decision = {}
    for round_, names in enumerate([["a1", "b1", "b2", "b3", "b4"], *[["a1", "a2", "b1", "b2", "b3", "b4"]] * 8]):
        members = {
            name: Member(
                frozenset(pools[name[0]]),
                Told(worker=name, standing=standing, owned=decision.get(name, {}), round=round_),
            )
            for name in names
        }
        decision = decide(partitions, members)
    units = divide(partitions)
    weight = {unit.topic: each for unit, each in zip(units, weights(units, [standing] * 6), strict=True)}
    one, two = (sum(weight[topic] * len(ps) for topic, ps in decision[name].items()) for name in ("a1", "a2"))
    assert max(one, two) <= (1 + SLACK) * (one + two) / 2 + max(weight.values())


@given(st.integers(1, 8), st.integers(1, 8), st.data())
def test_a_worker_that_comes_or_goes_moves_little(before: int, after: int, data: st.DataObject) -> None:
    """Of what living workers hold: at most `MOST_MOVED`, and the share of those who have just come."""
    topics = data.draw(st.lists(st.sampled_from(TOPICS), min_size=1, unique=True))
    partitions = {topic: data.draw(st.integers(1, 9).map(range)) for topic in topics}
    arriving = data.draw(st.dictionaries(st.sampled_from(MODELS), st.floats(0, 1e6)))
    first = decide(partitions, fleet(before, topics))
    then = decide(partitions, fleet(after, topics, first, {"w0": Standing(arriving=arriving)}))
    new = sum(not first.get(name) for name in then)
    count = sum(map(len, partitions.values()))
    assert moved(first, then) <= count * (MOST_MOVED + new / after) + 1


def test_where_all_models_fit_each_is_spread_over_all_workers() -> None:
    """As wide as its partitions go, so that a burst for one model meets the whole fleet."""
    topics = [f"p.m{n}.bulk" for n in range(9)]
    decision = decide({topic: range(8) for topic in topics}, fleet(4, topics))
    for topics_ in decision.values():
        assert {len(ps) for ps in topics_.values()} == {2}


def test_workers_that_join_one_after_the_other_end_up_even() -> None:
    """Each join moves what it has to, and no more; two share a topic of eight partitions in halves."""
    decision: Decision = {}
    for count in range(1, 5):
        decision = decide({"p.m0.bulk": range(8)}, fleet(count, ["p.m0.bulk"], decision))
        held = [sum(map(len, topics.values())) for topics in decision.values()]
        assert max(held) - min(held) <= 1, held


def scarce(count: int, models: int) -> dict[str, Standing]:
    """Workers with room for four of the models, each with four in memory; the first model is hot."""
    rates = {f"m{n}": 8_000.0 if n == 0 else 100.0 for n in range(models)}
    return {
        f"w{w}": Standing(
            tokens_per_s=10_000,
            memory_bytes=4 * MIB,
            resident={f"m{(w * 4 + n) % models}": MIB for n in range(4)},
            arriving={model: rate / count for model, rate in rates.items()},
        )
        for w in range(count)
    }


def test_where_memory_is_short_rare_models_live_on_few_workers_and_hot_ones_on_several() -> None:
    """Each rare model with who has it in memory; the hot one is too much for one worker."""
    topics = [f"p.m{n}.bulk" for n in range(32)]
    standings = scarce(8, 32)
    found = homes(decide({topic: range(8) for topic in topics}, fleet(8, topics, standings=standings)))
    assert len(found["m0"]) >= 4
    rare = [found[f"m{n}"] for n in range(1, 32)]
    assert sum(map(len, rare)) <= 40
    at_home = sum(any(f"m{n}" in standings[w].resident for w in found[f"m{n}"]) for n in range(1, 32))
    assert at_home >= 20, "most where they are in memory already; some make room for the hot one"


def test_both_lanes_of_a_model_go_to_the_same_workers() -> None:
    """Two groups with two leaders, which never talk; those of shared topics likewise, partition by partition."""
    standings = scarce(8, 32)
    sides = []
    for lane in ("interactive", "bulk"):
        topics = [*(f"p.m{n}.{lane}" for n in range(32)), f"p.shared.{lane}"]
        decision = decide({topic: range(8) for topic in topics}, fleet(8, topics, standings=standings))
        sides.append({(topic.split(".")[1], p): name for (topic, p), name in owners(decision).items()})
    assert sides[0] == sides[1]


def test_of_two_who_claim_a_partition_the_later_round_counts() -> None:
    """A worker that was cut off comes back with what it held then."""
    old = Member(frozenset(["plain"]), Told(worker="a", owned={"plain": [0, 1]}, round=3))
    new = Member(frozenset(["plain"]), Told(worker="b", owned={"plain": [1, 2]}, round=4))
    assert decide({"plain": range(4)}, {"x": old, "y": new}) == {"x": {"plain": [0, 3]}, "y": {"plain": [1, 2]}}


class Cluster:
    """What aiokafka knows of topics."""

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {"p.a.bulk": {0, 1, 2}, "p.b.bulk": {0}}.get(topic)


@pytest.mark.parametrize("round_", [2**64 - 1, 2**63, -(2**63)])
def test_a_member_that_counts_too_far_stops_no_leader(round_: int) -> None:
    """Each leader would end in turn: what a member says may be anything."""
    topics = ["p.a.bulk"]
    said = encode(Told(worker="w", owned={"p.a.bulk": [0]}, round=round_), topics)
    leader, other = Assignor("w1"), ConsumerProtocolMemberMetadata(0, topics, said)
    for _ in range(3):
        decided = leader.assign(Cluster(), {"m1": leader.metadata(topics), "m2": other})
        assert sum(len(numbers) for each in decided.values() for _, numbers in each.assignment) == 3
        leader.on_assignment(decided["m1"])


def test_the_assignor_speaks_kafkas_protocol_and_what_it_was_given_it_tells_the_next_leader() -> None:
    """Its name is final; what a member says has a version. A topic that is not there yet is given to nobody."""
    one, two = Assignor("w1", lambda: Standing(memory_bytes=MIB)), Assignor("w2")
    assert (NAME, one.name) == ("embedmq", "embedmq")
    said = one.metadata({"p.b.bulk", "p.a.bulk"})
    assert said.subscription == ["p.a.bulk", "p.b.bulk"]
    assert said.user_data[:1] == b"\x02"
    members = {
        "m1": ConsumerProtocolMemberMetadata.decode(said.encode()),
        "m2": two.metadata(["p.a.bulk", "missing"]),
    }
    found = one.assign(Cluster(), members)
    assert {m: dict(a.assignment) for m, a in found.items()} == {
        "m1": {"p.a.bulk": [0], "p.b.bulk": [0]},
        "m2": {"p.a.bulk": [1, 2]},
    }
    two.on_assignment(type(found["m2"]).decode(found["m2"].encode()))
    told = decode(two.metadata(["p.a.bulk"]).user_data, ["p.a.bulk"])
    assert told == Told(worker="w2", owned={"p.a.bulk": [1, 2]}, round=1)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        None,
        b"\x01" + msgspec.msgpack.encode({"worker": "w"}),
        b"\x01garbage",
        b"\x02\xc1",
        b"\x02\x90",
        b"\x09\x00",
    ],
)
def test_members_that_say_less_or_nonsense_take_part(said: bytes | None) -> None:
    """An older version in a rolling update, a foreign consumer: it gets its share."""
    members = {
        "old": ConsumerProtocolMemberMetadata(0, ["p.a.bulk"], said),
        "new": Assignor("w2", lambda: Standing(tokens_per_s=10, memory_bytes=MIB)).metadata(["p.a.bulk"]),
    }
    found = Assignor("w3").assign(Cluster(), members)
    assert sorted(p for each in found.values() for _, ps in each.assignment for p in ps) == [0, 1, 2]
    assert all(each.assignment for each in found.values())


@given(TOLD)
def test_what_is_told_arrives(told: Told) -> None:
    """To whole tokens/s and MiB, of models whose topics are subscribed to."""
    topics = sorted(TOPICS)
    found = decode(encode(told, topics), topics)
    assert (found.worker, found.round) == (told.worker, told.round)
    assert {t: list(ps) for t, ps in found.owned.items()} == {t: sorted(ps) for t, ps in told.owned.items() if ps}
    assert found.standing.resident == told.standing.resident
    assert found.standing.arriving == {m: round(rate) for m, rate in told.standing.arriving.items() if round(rate)}


def test_what_a_worker_says_is_bounded_and_what_it_holds_goes_first() -> None:
    """Thousands of models: those with least traffic that it does not hold are left out."""
    topics = sorted(f"p.m{n}.bulk" for n in range(5_000))
    standing = Standing(resident={f"m{n}": 4_000 * MIB for n in range(5_000)}, arriving={"m1": 9.0, "m4999": 1.0})
    said = encode(Told(worker="w", standing=standing, owned={"p.m77.bulk": range(8)}), topics)
    assert USER_DATA_BYTES - 32 < len(said) <= USER_DATA_BYTES
    found = decode(said, topics)
    assert set(found.owned) == {"p.m77.bulk"}
    assert set(found.standing.arriving) == {"m1", "m4999"}
    assert len(found.standing.resident) > 500


def test_a_hot_model_gets_as_many_homes_as_it_needs() -> None:
    """More than those that prefer it most: workers beyond them carry nothing else, and would carry nothing."""
    workers, partitions = 100, {"p.hot.bulk": range(200), **{f"p.rare{n}.bulk": range(1) for n in range(300)}}
    names = [f"w{number}" for number in range(workers)]
    few = names[:CANDIDATES]
    before = {name: {"p.hot.bulk": list(range(200))[number :: len(few)]} for number, name in enumerate(few)}
    for number, topic in enumerate(list(partitions)[1:]):
        before.setdefault(names[number % workers], {})[topic] = [0]
    decision: Decision = before
    for _ in range(20):
        standings = {
            name: Standing(
                tokens_per_s=100.0,
                memory_bytes=8 * MIB,
                resident={"hot": MIB} if "p.hot.bulk" in topics else {},
                arriving={"hot": 25.0 * len(topics.get("p.hot.bulk", ()))},
            )
            for name, topics in decision.items()
        }
        decision = decide(partitions, fleet(workers, list(partitions), decision, standings))
    heaviest = max(len(topics.get("p.hot.bulk", ())) for topics in decision.values())
    assert len(homes(decision)["hot"]) >= 64
    assert heaviest <= 3, "two are the mean"
