"""Workers that are killed, frozen and handed over, brokers that are lost: nothing is lost, and all
of it can be repeated (L2, L3, L5)."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from aiokafka.admin import NewTopic

from pipeline.broker.admin import admin_client
from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.kafka import KafkaCluster
from pipeline.broker.topics import configuration, create_topics
from pipeline.follow.follower import Follower, snapshot
from pipeline.follow.table import SteeringTable
from pipeline.sim.size import SimSize
from schemas.registry import INPUTS, STEERING_CUTS, TABLES
from tests.brokers import EMBEDDED, KAFKA, TEST_PROPERTIES, TestBroker, candidates
from tests.chaos import Chaos
from tests.known import KnownProducer
from tests.laws import TOPICS, counting, nothing_is_unaccounted, settled, the_log_folds_again
from tests.plane import Left, read_all

pytestmark = [pytest.mark.broker, pytest.mark.slow]

SEED = int(os.environ.get("EDGESTEER_CHAOS_SEED") or 20)
PARTITIONS = 4
NODES = 3
SIZE = SimSize(regions=4, sites=16, appliances=64, prefixes=1600, rate=200, churn_per_s=10)
#: Table topics are compacted within the test: segments end soon. (On the embedded broker, so set,
#: they lose records that are not superseded.) Not so soon that a follower which is starved for some
#: seconds misses what one cut took back and the next one gave again: it would hold a mixture.
#: Tombstones must outlive the absence of any broker: one that comes back after they are gone still
#: has what they ended, and may lead.
SOON = {
    "segment.ms": "5000",
    "min.compaction.lag.ms": "30000",
    "max.compaction.lag.ms": "30000",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "180000",
}

#: On the embedded broker, which keeps nothing over a restart and evicts nobody: what is left.
ANYWHERE = ["kill_one", "kill_all", "hand_over", "reconfigure", "freeze_briefly"]
QUICK = ["kill_one", "freeze", "lose_leader", "reconfigure", "kill_all"]
#: Everything that can happen to workers and to three brokers, with the workers killed by it.
FAULTS = {
    "kill_one": 1,
    "kill_two": 2,
    "kill_all": 3,
    "kill_catching_up": 2,
    "kill_taking_over": 2,
    "freeze": 0,
    "freeze_briefly": 0,
    "hand_over": 0,
    "join_and_leave": 0,
    "reconfigure": 0,
    "lose_leader": 0,
    "restart_broker": 0,
    "lose_leader_and_worker": 1,
    "lose_leader_and_all": 3,
}
#: Kills of the long run; it takes about 20 s a kill (90 on a slow machine), so nobody waits for it
#: unasked.
KILLS = int(os.environ.get("EDGESTEER_CHAOS_KILLS") or 0)
#: What ends one that hangs: five faults, each with its RECOVERY_S, and all cuts folded again.
QUICK_S = 1800
LONG_S = QUICK_S + 180 * KILLS


@contextmanager
def chaos_broker(folder: Path) -> Iterator[tuple[TestBroker, KafkaCluster | None]]:
    """Three nodes of Apache Kafka, or the embedded broker."""
    kind = candidates()[0]
    if kind == KAFKA:
        with KafkaCluster(folder, nodes=NODES, properties=TEST_PROPERTIES) as cluster:
            yield TestBroker(KAFKA, cluster.settings), cluster
    elif kind == EMBEDDED:
        broker = EmbeddedBroker(folder).start()
        try:
            yield TestBroker(EMBEDDED, broker.settings), None
        finally:
            broker.stop()
    else:
        pytest.skip("starts brokers of its own: EDGESTEER_TEST_BROKER=kafka or embedded")


async def lay_topics(broker: TestBroker, copies: int) -> None:
    """The registry's, and on Kafka the tables' so that they are compacted while we look."""
    soon = SOON if broker.is_kafka else {}
    async with admin_client(broker.settings) as client:
        tables = [
            NewTopic(
                topic.name,
                PARTITIONS,
                copies,
                topic_configs={**configuration(topic, copies), **soon},
            )
            for topic in TABLES
        ]
        await client.create_topics(tables)
    await create_topics(broker.settings, PARTITIONS, copies)


@pytest.mark.timeout(QUICK_S)
async def test_whatever_happens_the_tables_are_those_of_a_run_in_which_nothing_did(
    tmp_path: Path,
) -> None:
    with chaos_broker(tmp_path / "broker") as (broker, cluster):
        faults = QUICK if cluster is not None else ANYWHERE
        await survive(broker, cluster, tmp_path, Random(SEED).sample(faults, len(faults)))


@pytest.mark.timeout(LONG_S)
@pytest.mark.skipif(not KILLS, reason="takes a quarter of an hour: make chaos")
async def test_so_many_kills_and_everything_else_are_survived(tmp_path: Path) -> None:
    with chaos_broker(tmp_path / "broker") as (broker, cluster):
        if cluster is None:
            pytest.skip("needs three nodes of Apache Kafka: EDGESTEER_TEST_BROKER=kafka")
        chaos = await survive(broker, cluster, tmp_path, schedule(Random(SEED)))
        assert chaos.kills >= KILLS


def schedule(chance: Random) -> list[str]:
    """Every fault once, and then some, until there are enough kills; in any order."""
    faults = list(FAULTS)
    while sum(FAULTS[name] for name in faults) < KILLS:
        faults.append(chance.choice(list(FAULTS)))
    return chance.sample(faults, len(faults))


async def survive(
    broker: TestBroker, cluster: KafkaCluster | None, folder: Path, faults: list[str]
) -> Chaos:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells of each broker away
    print(f"EDGESTEER_CHAOS_SEED={SEED}: {', '.join(faults)}")
    await lay_topics(broker, NODES if cluster is not None else 1)
    async with Chaos(broker, cluster, folder, PARTITIONS, SEED) as chaos:
        known = KnownProducer(broker.settings, PARTITIONS, SEED, SIZE)
        follower = Follower(broker.settings, chaos.watch.on_step)
        chaos.watch.attach(follower)
        async with follower, known:
            await chaos.run(faults, known)
            await known.stop()
            await settled(broker, PARTITIONS)
        assert chaos.watch.complaints == []
        assert max(await chaos.stop()) <= 0  # one that was not up yet ends by the signal itself
    left = await read_all(broker, TOPICS, PARTITIONS)
    print(chaos.summary())
    print(account(left, known))
    await all_laws_hold(broker, left, known)
    if "reconfigure" in faults:
        cuts = [cut for cell in range(PARTITIONS) for cut in counting(left, cell)]
        assert len({cut.config_hash for cut in cuts}) > 1
    return chaos


async def all_laws_hold(broker: TestBroker, left: Left, known: KnownProducer) -> None:
    stands = {
        (topic.name, cell): [record.value for record in left.records[topic.name][cell]]
        for topic in INPUTS
        for cell in range(PARTITIONS)
    }
    assert known.lost(stands) == []
    refused = nothing_is_unaccounted(left, PARTITIONS)
    assert refused.total() > 0  # rubbish was sent as well
    late = await snapshot(broker.settings)
    the_log_folds_again(left, late, PARTITIONS)
    await the_tables_hold_nothing_else(broker, late)


async def the_tables_hold_nothing_else(broker: TestBroker, late: SteeringTable) -> None:
    """Whoever knows nothing of cuts and terms, and takes the last value of each key, holds the
    same: what a zombie sent has left no trace. And there was something to compact."""
    left = await read_all(broker, [topic.name for topic in TABLES], PARTITIONS)
    compacted = False
    for topic in TABLES:
        for cell in range(PARTITIONS):
            records = left.records[topic.name][cell]
            last = {record.key: record.value for record in records}
            held = {key: value for key, value in last.items() if value is not None}
            assert held == late.cell(cell).records[topic.name], (topic.name, cell)
            compacted |= bool(records) and records[-1].offset + 1 > len(records)
    assert compacted or not broker.is_kafka


def account(left: Left, known: KnownProducer) -> str:
    cuts = [counting(left, cell) for cell in range(PARTITIONS)]
    ignored = sum(
        len(left.records[STEERING_CUTS.name][cell]) - len(cuts[cell]) for cell in range(PARTITIONS)
    )
    return (
        f"terms {[max(cut.term for cut in each) for each in cuts]}, "
        f"cuts {[len(each) for each in cuts]}, {ignored} that do not count; "
        f"{known.records} records acknowledged, {known.sent_again} batches sent again"
    )
