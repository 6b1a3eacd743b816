"""What others wrote on a cell's table topics is found by the gaps between our own records, and
written over with what the cell has published."""

from collections.abc import Iterable
from typing import Any

import pytest

from pipeline.broker.batches import Written
from pipeline.cell import Cell, current
from pipeline.effects import Record
from schemas.registry import LB_WEIGHTS, STEERING_GROUPS, STEERING_PREFIXES, TABLES
from tests.cell_world import fold, make_log
from topologies.readback import Mark
from topologies.standing import Standing

OWN, OTHERS = (4, 4), (3, 3)  # number and term of cuts


class Topics:
    """The table topics of one partition: (cut, key, value) by offset; stands in for Readback."""

    def __init__(self) -> None:
        self.logs: dict[str, list[tuple[Mark, bytes, bytes | None]]] = {
            topic.name: [] for topic in TABLES
        }
        self.read = 0

    def put(self, by: Mark, records: Iterable[Record]) -> list[Written]:
        written = []
        for one in records:
            log = self.logs[one.topic]
            log.append((by, one.key, one.value))
            written.append(Written(one.topic, len(log) - 1, len(log)))
        return written

    def held(self, topic: str) -> dict[bytes, bytes]:
        held: dict[bytes, bytes] = {}
        for _, key, value in self.logs[topic]:
            held.pop(key, None)
            if value is not None:
                held[key] = value
        return held

    async def ends(self, topics: Iterable[str], partition: int) -> dict[str, int]:
        return {topic: len(self.logs[topic]) for topic in topics}

    async def table(self, topic: str, partition: int) -> tuple[dict[bytes, bytes], int]:
        return self.held(topic), len(self.logs[topic])

    async def written_by_others(
        self, topic: str, partition: int, start: int, end: int, own: Mark
    ) -> dict[bytes, bytes | None]:
        self.read += end - start
        return {key: value for by, key, value in self.logs[topic][start:end] if by != own}


@pytest.fixture(scope="module")
def cell() -> Cell:
    """A cell that has published weights, groups and prefixes."""
    cell = Cell(0, 1)
    for _ in fold(make_log(1, 12, bad=False), cell):
        pass
    return cell


def published(cell: Cell) -> dict[str, dict[bytes, bytes]]:
    return {topic.name: dict(cell.published_records(topic.name)) for topic in TABLES}


def everything(cell: Cell) -> list[Record]:
    return [
        Record(topic, key, value)
        for topic, held in published(cell).items()
        for key, value in held.items()
    ]


def standing(topics: Topics) -> Standing:
    double: Any = topics
    return Standing(0, double, {topic: len(log) for topic, log in topics.logs.items()})


def test_what_is_published_under_a_key_is_what_the_topics_hold(cell: Cell) -> None:
    for topic, held in published(cell).items():
        assert held
        unknown = [b"", b"nowhere", b"\0" * 8 + b"nowhere", b"\0" * 17 + b"eu", *held]
        found = current(cell, topic, unknown)
        assert {key: value for key, value in found.items() if value is not None} == held
        assert found.keys() == set(unknown)


def test_a_topic_on_which_nothing_is_published_is_left_alone() -> None:
    for topic in TABLES:
        assert current(Cell(0, 1), topic.name, [b"key"]) == {}


async def test_nothing_is_read_while_nobody_else_writes(cell: Cell) -> None:
    topics = Topics()
    stands = standing(topics)
    await stands.wrote(topics.put(OWN, everything(cell)), OWN)
    await stands.look(OWN)
    assert (topics.read, stands.corrections(cell)) == (0, [])
    assert stands.verified == {topic: len(log) for topic, log in topics.logs.items()}


async def test_after_a_look_the_ends_lie_behind_what_the_one_before_wrote_since_the_snapshot(
    cell: Cell,
) -> None:
    """Nothing of it counts as somebody else's where it says what the cell has published."""
    topics = Topics()
    stands = standing(topics)  # the snapshot was made here
    topics.put(OTHERS, everything(cell))
    ends = {topic: len(log) for topic, log in topics.logs.items()}
    assert await stands.ends() != ends
    await stands.look(OWN)
    assert await stands.ends() == ends
    assert stands.corrections(cell) == []


@pytest.mark.parametrize("behind", [True, False])
async def test_what_a_zombie_wrote_is_written_over(cell: Cell, behind: bool) -> None:
    """Behind our last record, and between two of ours; also where the cell has published
    nothing."""
    topics = Topics()
    stands = standing(topics)
    whole, wanted = everything(cell), published(cell)
    await stands.wrote(topics.put(OWN, whole), OWN)
    for topic in TABLES:
        key = next(iter(wanted[topic.name]))
        rubbish = [(key, b"stale"), (b"long gone", b"stale")]
        topics.put(OTHERS, [Record(topic.name, *one) for one in rubbish])
    if behind:
        await stands.look(OWN)
    else:
        await stands.wrote(topics.put(OWN, _some_of(whole)), OWN)
    assert stands.verified is None  # no snapshot says that the topics are right
    corrections = stands.corrections(cell)
    await stands.wrote(topics.put(OWN, corrections), OWN)
    assert {topic: topics.held(topic) for topic in wanted} == wanted
    assert stands.verified is not None
    assert len(corrections) == (8 if behind else 6)  # two of them we wrote again ourselves


def _some_of(records: list[Record]) -> list[Record]:
    """The first of two topics and the last of the others."""
    found = [[one for one in records if one.topic == topic.name] for topic in TABLES]
    return [of_topic[-(nth > 1)] for nth, of_topic in enumerate(found)]


async def test_a_batch_that_was_sent_twice_is_ours(cell: Cell) -> None:
    topics = Topics()
    stands = standing(topics)
    topics.put(OWN, everything(cell))  # its acknowledgement was lost
    await stands.wrote(topics.put(OWN, everything(cell)), OWN)
    assert topics.read > 0
    assert stands.corrections(cell) == []


async def test_a_take_over_reads_only_what_came_after_the_snapshot(cell: Cell) -> None:
    topics, wanted = Topics(), published(cell)
    topics.put(OTHERS, everything(cell))
    stands = standing(topics)  # verified up to here
    key, value = next(iter(wanted[LB_WEIGHTS.name].items()))
    for written in (b"cut 70", value):
        topics.put(OTHERS, [Record(LB_WEIGHTS.name, key, written)])
    topics.put(OTHERS, [Record(STEERING_PREFIXES.name, b"x" * 19, b"cut 71")])
    await stands.look(OWN)
    assert topics.read == 3
    assert stands.corrections(cell) == [Record(STEERING_PREFIXES.name, b"x" * 19, None)]


async def test_without_a_snapshot_everything_is_compared(cell: Cell) -> None:
    topics, wanted = Topics(), published(cell)
    topics.put(1, everything(cell)[::2])
    topics.put(1, [Record(STEERING_GROUPS.name, b"\1" * 10, b"of another code")])
    double: Any = topics
    stands = Standing(0, double, None)
    assert not stands.known
    await stands.wrote([Written(LB_WEIGHTS.name, 3, 4)], OWN)  # nothing is known to compare with
    assert stands.verified is None
    records = await stands.reconciled(cell)
    topics.put(OWN, [one for one in records if isinstance(one, Record)])
    assert {topic: topics.held(topic) for topic in wanted} == wanted
    assert stands.known
