"""The whole plane as processes of their own, for end-to-end tests: workers, a fleet, and what they
left in the topics."""

import asyncio
import json
import signal
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from aiokafka import TopicPartition

from pipeline.cell import Cell, step
from pipeline.config import SteeringConfig
from pipeline.cut import Cut, CutSequence
from pipeline.demo.children import Child
from pipeline.demo.run import CONFIG
from pipeline.follow.follower import Follower
from pipeline.follow.table import SteeringTable
from pipeline.wire.decode import decode
from schemas.registry import (
    INPUTS,
    STEERING_CONFIG,
    STEERING_CUTS,
    STEERING_EPOCHS,
    STEERING_GROUPS,
)
from tests.brokers import TestBroker
from tests.clients import reader
from topologies.chunks import Chunk, is_keyed
from topologies.inbox import Inbox


class Plane:
    """Workers and a fleet on `broker`; a context manager that ends what it started."""

    def __init__(
        self, broker: TestBroker, folder: Path, workers: int, options: Sequence[str] = ()
    ) -> None:
        """`options`: more of `edgesteer worker`'s."""
        self._broker, self._folder, self._options = broker, folder, options
        config = folder / "edgesteer.toml"
        config.write_text(CONFIG)
        self.workers = [self._worker(f"w{number}", config) for number in range(workers)]

    def _worker(self, name: str, config: Path) -> Child:
        args = ["worker", "--broker", self._broker.settings.bootstrap, "--name", name]
        args += ["--config", str(config), "--datadir", str(self._folder / name), *self._options]
        if not self._broker.is_kafka:
            args.append("--static-member")  # nobody else takes its place there
        return Child(name, args, self._folder / f"{name}.log")

    def fleet(self, *args: str) -> Child:
        """One that reports until it is stopped. (How long a test takes is up to the machine.)"""
        bootstrap = self._broker.settings.bootstrap
        command = ["sim", "run", "--json", "--broker", bootstrap, *args]
        return Child("fleet", command, self._folder / "fleet.log")

    def produced(self) -> dict[str, int]:
        """What the fleet says at its end: topic -> records."""
        last = (self._folder / "fleet.log").read_text().strip().splitlines()[-1]
        produced: dict[str, int] = json.loads(last)["produced"]
        return produced

    async def __aenter__(self) -> "Plane":
        for worker in self.workers:
            await worker.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    async def kill(self, number: int) -> None:
        """kill -9, and start it again."""
        await self.workers[number].stop(signal.SIGKILL)
        await self.workers[number].start()


def shares(table: SteeringTable) -> dict[str, int]:
    """Site -> sum of its shares over all groups and classes."""
    found: dict[str, int] = {}
    for _, _, value in table.items(STEERING_GROUPS.name):
        for site in decode(value)[1]["sites"]:
            found[site["site"]] = found.get(site["site"], 0) + sum(site["shares"])
    return found


async def cuts_later(
    follower: Follower, cells: Sequence[int], count: int, patience_s: float
) -> None:
    """Until every one of `cells` has closed `count` cuts more: the first may be under way."""
    wanted = {cell: follower.table.cell(cell).cut + count for cell in cells}
    await follower.wait_for(
        lambda table: all(table.cell(cell).cut >= wanted[cell] for cell in cells), patience_s
    )


@dataclass
class Left:
    """Everything that stands in the topics: topic -> partition -> records."""

    records: dict[str, dict[int, list[Any]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def decoded(self, topic: str, partition: int) -> list[dict[str, Any]]:
        return [decode(record.value)[1] for record in self.records[topic][partition]]


async def read_all(broker: TestBroker, topics: Sequence[str], partitions: int) -> Left:
    """Every record of `topics` up to their present ends."""
    left = Left()
    tps = [
        TopicPartition(topic, partition)
        for topic in topics
        for partition in range(1 if topic == STEERING_CONFIG.name else partitions)
    ]
    async with reader(broker, *tps) as consumer:
        ends = await consumer.end_offsets(tps)
        behind = [tp for tp in tps if ends[tp]]
        while behind:
            for tp, batch in (await consumer.getmany(timeout_ms=200)).items():
                left.records[tp.topic][tp.partition] += batch
            behind = [tp for tp in behind if await consumer.position(tp) < ends[tp]]
    return left


def refold(left: Left, partition: int, partitions: int) -> dict[int, str]:
    """Fold the cut log of one cell again, in this process: cut number -> table hash."""
    configs = {}
    for record in left.decoded(STEERING_CONFIG.name, 0):
        configs[record["hash"]] = SteeringConfig.model_validate(orjson.loads(record["config"]))
    inbox = Inbox({})
    for topic in INPUTS:
        records = left.records[topic.name][partition]
        if records:
            offsets = np.array([record.offset for record in records], dtype=np.int64)
            values = [record.value for record in records]
            keys = [record.key for record in records] if is_keyed(topic.name) else None
            end = int(offsets[-1]) + 1
            inbox.append(Chunk(topic.name, partition, offsets, values, keys, end))
    cell, hashes = Cell(partition, partitions), dict[int, str]()
    sequence = CutSequence(whole=True)
    for record in left.decoded(STEERING_CUTS.name, partition):
        cut = Cut.from_record(record)
        if sequence.take(cut):
            rows, _ = inbox.take(cut.offsets)
            effects = step(cell, rows, cut, configs[cut.config_hash])
            hashes[cut.number] = f"{effects.epoch.table_hash:016x}"
    return hashes


def epochs(left: Left, partition: int) -> dict[int, dict[str, Any]]:
    """Cut number -> its Epoch; one that was sent again must say the same."""
    found: dict[int, dict[str, Any]] = {}
    for epoch in left.decoded(STEERING_EPOCHS.name, partition):
        same = ("table_hash", "prefixes", "groups", "sites", "inputs", "notes")
        before = found.setdefault(epoch["cut"], epoch)
        assert [before[name] for name in same] == [epoch[name] for name in same]
    return found
