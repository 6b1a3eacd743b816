"""What must be true of the topics after anything that happened to workers and brokers."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from pipeline.cut import Cut, CutSequence
from pipeline.follow.table import SteeringTable
from schemas.registry import (
    INPUTS,
    STEERING_CONFIG,
    STEERING_CUTS,
    STEERING_DEAD_LETTERS,
    STEERING_EPOCHS,
)
from tests.brokers import TestBroker
from tests.plane import Left, epochs, read_all, refold

#: What the laws are read from.
TOPICS = (
    *(topic.name for topic in INPUTS),
    STEERING_CONFIG.name,
    STEERING_CUTS.name,
    STEERING_EPOCHS.name,
    STEERING_DEAD_LETTERS.name,
)


SETTLE_S = 300.0


async def settled(broker: TestBroker, partitions: int) -> None:
    """Until the Epochs account for every record of the inputs."""
    topics = [STEERING_EPOCHS.name, *(topic.name for topic in INPUTS)]
    until = time.monotonic() + SETTLE_S
    while open_ := _open(await read_all(broker, topics, partitions), partitions):
        assert time.monotonic() < until, open_
        await asyncio.sleep(1)


def _open(left: Left, partitions: int) -> dict[int, str]:
    """Cell -> what its Epochs do not tell of."""
    found = {}
    for cell in range(partitions):
        told = epochs(left, cell)
        rows = sum(sum(counts.values()) for counts in rows_of(told))
        stand = sum(len(left.records[topic.name][cell]) for topic in INPUTS)
        missing = sorted(set(range(1, max(told, default=0) + 1)) - set(told))
        if rows != stand or missing:
            found[cell] = f"{rows} of {stand} records; no Epoch of cuts {missing}"
    return found


def counting(left: Left, partition: int) -> list[Cut]:
    """The cuts of one cell that count."""
    sequence = CutSequence(whole=True)
    cuts = (Cut.from_record(each) for each in left.decoded(STEERING_CUTS.name, partition))
    return [cut for cut in cuts if sequence.take(cut)]


def the_log_folds_again(left: Left, late: SteeringTable, partitions: int) -> None:
    """L2: every cut has an Epoch, and its hash is that of a fold in which nothing happened; a
    follower that came only now holds the last one."""
    assert not late.verify(), late.verify()
    for partition in range(partitions):
        published = {cut: one["table_hash"] for cut, one in epochs(left, partition).items()}
        folded = refold(left, partition, partitions)
        last = max(published)
        assert sorted(published) == list(range(1, last + 1))
        differing = {cut for cut in published if published[cut] != folded[cut]}
        assert not differing, f"cell {partition}: {sorted(differing)}"
        cell = late.cell(partition)
        assert (cell.cut, f"{cell.table_hash:016x}") == (last, published[last])


def nothing_is_unaccounted(left: Left, partitions: int) -> Counter[str]:
    """L3: records in the topics = rows folded + dead letters, by topic and partition; what was
    refused, by topic."""
    letters = _letters(left, partitions)
    told: Counter[str] = Counter()
    for partition in range(partitions):
        folded, refused = rows_of(epochs(left, partition))
        for topic in INPUTS:
            stand = len(left.records[topic.name][partition])
            assert folded[topic.name] + refused[topic.name] == stand, (topic.name, partition)
            assert letters[topic.name, partition] == refused[topic.name], (topic.name, partition)
        told += refused
    return told


def rows_of(told: Mapping[int, Mapping[str, Any]]) -> tuple[Counter[str], Counter[str]]:
    """Rows folded and rows refused by topic, over all Epochs of a cell."""
    folded: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for epoch in told.values():
        for one in epoch["inputs"]:
            assert one["rows"] == one["folded"] + one["refused"]
            folded[one["topic"]] += one["folded"]
            refused[one["topic"]] += one["refused"]
    return folded, refused


def _letters(left: Left, partitions: int) -> Mapping[tuple[str, int], int]:
    """(topic, partition) -> records that dead letters tell of; one sent again is the same."""
    letters: dict[tuple[str, int, int], int] = {}
    for partition in range(partitions):
        for letter in left.decoded(STEERING_DEAD_LETTERS.name, partition):
            place = letter["topic"], letter["partition"], letter["offset"]
            assert letters.setdefault(place, letter["count"]) == letter["count"]
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for (topic, partition, _), count in letters.items():
        counts[topic, partition] += count
    return counts
