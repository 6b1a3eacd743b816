"""What others wrote on a cell's table topics is overwritten, whoever of the two came last."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pipeline.cell import Cell
from pipeline.effects import Record
from schemas.registry import LB_WEIGHTS, TABLES
from topologies import standing as module
from topologies.outputs import Written
from topologies.readback import Readback
from topologies.standing import Standing

TOPIC = LB_WEIGHTS.name
OURS, THEIRS = 3, 4
#: What the cell has published, as far as it is asked.
PUBLISHED: dict[bytes, bytes | None] = {b"a": b"a-now", b"b": b"b-now", b"gone": None}


@dataclass
class FakeReadback:
    """One table topic in memory: (key, value, term) by offset."""

    log: list[tuple[bytes, bytes | None, int]] = field(default_factory=list)

    async def ends(self, topics: Any, partition: int) -> dict[str, int]:
        return {topic: len(self.log) if topic == TOPIC else 0 for topic in topics}

    async def written_by_others(
        self, topic: str, partition: int, start: int, end: int, term: int
    ) -> dict[bytes, bytes | None]:
        assert topic == TOPIC
        return {key: value for key, value, by in self.log[start:end] if by != term}

    def write(self, term: int, **records: bytes | None) -> Written:
        start = len(self.log)
        self.log += [(key.encode(), value, term) for key, value in records.items()]
        return Written(TOPIC, start, len(self.log))


@pytest.fixture
def readback(monkeypatch: pytest.MonkeyPatch) -> FakeReadback:
    def current(cell: Cell, topic: str, keys: Any) -> dict[bytes, bytes | None]:
        return {key: PUBLISHED[key] for key in keys}

    monkeypatch.setattr(module, "current", current)
    return FakeReadback()


def standing_on(readback: FakeReadback) -> Standing:
    verified = {topic.name: 0 for topic in TABLES}
    return Standing(0, cast(Readback, readback), verified)


def corrections(standing: Standing) -> list[Record]:
    return standing.corrections(cast(Cell, None))


async def test_what_others_wrote_before_or_behind_ours_is_overwritten_once(
    readback: FakeReadback,
) -> None:
    standing = standing_on(readback)
    readback.write(THEIRS, gone=b"late")
    await standing.wrote([readback.write(OURS, a=b"a-now")], OURS)
    assert standing.verified is None  # not while something of theirs stands
    readback.write(THEIRS, b=b"late")
    await standing.look(OURS)
    assert corrections(standing) == [Record(TOPIC, b"gone", None), Record(TOPIC, b"b", b"b-now")]
    assert corrections(standing) == []
    assert standing.verified is not None
    assert standing.verified[TOPIC] == 3


async def test_what_others_wrote_and_is_right_stays(readback: FakeReadback) -> None:
    standing = standing_on(readback)
    readback.write(THEIRS, a=b"a-now", gone=None)
    await standing.look(OURS)
    assert corrections(standing) == []


async def test_what_we_wrote_late_ourselves_is_overwritten(readback: FakeReadback) -> None:
    """We were frozen: another one led, and what we had queued came after its records."""
    standing = standing_on(readback)
    readback.write(THEIRS, a=b"a-now", b=b"b-now")
    written = [readback.write(OURS, a=b"a-of-old"), readback.write(OURS, b=b"b-of-old")]
    await standing.wrote(written, OURS)
    assert corrections(standing) == [
        Record(TOPIC, b"a", b"a-now"),
        Record(TOPIC, b"b", b"b-now"),
    ]


async def test_ours_are_not_read_while_nobody_else_writes(readback: FakeReadback) -> None:
    standing = standing_on(readback)
    written = readback.write(OURS, a=b"a-now")
    readback.log.clear()  # reading it would find nothing
    await standing.wrote([written], OURS)
    await standing.look(OURS)
    assert standing.verified == {topic.name: 1 if topic is LB_WEIGHTS else 0 for topic in TABLES}
