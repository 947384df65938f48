"""Which rows are there? In the order of their numbers."""

from __future__ import annotations

from typing import Final

from tests.faults.rig import Row
from tests.faults.rows import again, brokers, deaths, forged, load, network, poison, redis_trouble, retries, soak

ROWS: Final = (
    Row("1", deaths.killed_mid_batch, fast=True),
    Row("1b", deaths.killed_with_the_real_session),
    Row("2", deaths.terminated_under_load, fast=True),
    Row("3", deaths.stopped_for_two_sessions),
    Row("4", deaths.loop_blocked),
    Row("5", brokers.each_broker_killed, brokers=3, alone=True),
    Row("6", brokers.whole_cluster_away, brokers=3, alone=True),
    Row("7a", network.worker_cut_off_from_kafka),
    Row("7b", network.worker_cut_off_from_redis),
    Row("8a", redis_trouble.connections_killed, fast=True),
    Row("8b", redis_trouble.data_lost),
    Row("8c", redis_trouble.lagging_replica_promoted),
    Row("8d", redis_trouble.takes_nothing_more, fast=True),
    Row("8e", redis_trouble.away),
    Row("8f", redis_trouble.a_drop_alone_asks_nothing_twice, fast=True),
    Row("9a", poison.requests_that_break, fast=True),
    Row("9b", poison.process_killed_by_a_record),
    Row("9c", forged.headers_that_lie, fast=True),
    Row("10a", poison.device_out_of_memory, fast=True),
    Row("10b", poison.device_lost),
    Row("10c", poison.model_that_does_not_load, fast=True),
    Row("11", deaths.members_come_and_go),
    Row("12", again.asked_more_than_once, fast=True),
    Row("13", retries.clock_jumps),
    Row("14a", again.offsets_with_gaps),
    Row("14b", again.topic_made_anew),
    Row("14c", again.topic_made_anew_while_a_model_loads),
    Row("16", load.ten_times_overload, alone=True),
    Row("17", load.nobody_reads),
    Row("18a", retries.never_early, fast=True),
    Row("18b", retries.dead_letters_away),
    Row("19", retries.bad_deploy),
    Row("20", soak.anything_at_any_time, alone=True),
)
