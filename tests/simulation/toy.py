"""A cell that costs nothing, for thousands of runs: it has what goes wrong in a real one.

Rows set numbers by name; the order of topics and rows counts. Three table topics hang together
(weights of a name, members of a group, group of a prefix). A decision moves only when its number
moved enough, so what is published depends on all that came before; on every tick a restless name
ages by the cut's number; another configuration decides everything anew; bad rows are refused. Code
version 2 decides otherwise, of the same numbers.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import SteeringConfig
from pipeline.cut import Cause, Cut
from pipeline.effects import Effects, EpochDraft, Record, VerdictRow
from pipeline.reasons import Reason, Refusal
from pipeline.snapshot.seal import opened, sealed
from pipeline.state.codec import Packed, pack, unpack
from pipeline.wire.rows import Refused, TopicRows
from pipeline.wire.tablehash import MODULUS, record_hash
from schemas.registry import (
    INPUTS,
    LB_WEIGHTS,
    STEERING_GROUPS,
    STEERING_PREFIXES,
    STEERING_SITES,
    TABLES,
)

NAMES = [f"k{number}" for number in range(10)]
#: What goes on changing when all is calm: the others would show what was left by somebody late.
RESTLESS = NAMES[:2]
GROUPS = {1: 3, 2: 4}  # by code version

#: The version of the process whose turn it is (workers.py sets it).
running = {"version": 1}


def row(name: str, number: int) -> bytes:
    return f"{name}={number}".encode()


def decode_chunk(
    topic: str, values: Sequence[bytes | None], offsets: Any, keys: Sequence[bytes | None] | None
) -> TopicRows:
    """Every row as it is, where Lane only looks at offsets."""
    named = keys if keys is not None else [None] * len(values)
    rows: list[Any] = [
        Refused(int(offset), Refusal.UNDECODABLE, (key, value))  # type: ignore[arg-type]
        for offset, key, value in zip(offsets, named, values, strict=True)
    ]
    return TopicRows(topic, refused=rows)


@dataclass
class Cell:
    partition: int
    partitions: int
    numbers: dict[str, int] = field(default_factory=dict)
    decided: dict[str, int] = field(default_factory=dict)
    config_hash: str = ""
    table: dict[str, dict[bytes, bytes]] = field(
        default_factory=lambda: {topic.name: {} for topic in TABLES}
    )
    table_hash: int = 0
    #: Which code folded it from which cut on: an Epoch tells it in its notes.
    lineage: list[tuple[int, int]] = field(default_factory=list)

    def expected_bps(self) -> dict[str, Any]:
        return {}

    def states(self) -> dict[str, int]:
        return {}

    def published_records(self, topic: str) -> Iterator[tuple[bytes, bytes]]:
        yield from self.table[topic].items()

    def put(self, topic: str, key: bytes, value: bytes | None) -> list[Record]:
        """Publish unless it is what is published."""
        held = self.table[topic]
        old = held.get(key)
        if old == value:
            return []
        if old is not None:
            self.table_hash -= record_hash(key, old)
            del held[key]
        if value is not None:
            self.table_hash += record_hash(key, value)
            held[key] = value
        self.table_hash %= MODULUS
        return [Record(topic, key, value)]

    def to_sections(self) -> dict[str, Packed]:
        """As Memory.to_sections."""
        sections = {
            topic: pack(topic, {key.decode(): value.decode() for key, value in held.items()})
            for topic, held in self.table.items()
        }
        for name in ("numbers", "decided"):
            sections[name] = pack(name, getattr(self, name))
        fields = {name: getattr(self, name) for name in ("config_hash", "table_hash", "lineage")}
        return sealed(self.partition, self.partitions, sections, fields)

    @classmethod
    def from_bytes(cls, partition: int, partitions: int, sections: Mapping[str, bytes]) -> "Cell":
        """As Memory.from_bytes."""
        fields = opened(partition, partitions, sections)
        cell = cls(partition, partitions)
        for topic, held in cell.table.items():
            for key, value in unpack(topic, sections[topic]).items():
                held[key.encode()] = value.encode()
        cell.numbers, cell.decided = (
            dict(unpack(name, sections[name])) for name in ("numbers", "decided")
        )
        cell.config_hash, cell.table_hash = fields["config_hash"], fields["table_hash"]
        cell.lineage = [(cut, version) for cut, version in fields["lineage"]]
        return cell


def step(cell: Cell, rows: Mapping[str, TopicRows], cut: Cut, config: SteeringConfig) -> Effects:
    """As pipeline.cell.step, by the running version."""
    draft, refused = EpochDraft(), dict[str, list[Refused]]()
    if not cell.lineage or cell.lineage[-1][1] != running["version"]:
        cell.lineage.append((cut.number, running["version"]))
    draft.notes = {f"{first:06}": version for first, version in cell.lineage}
    touched: set[str] = set()
    for topic in INPUTS:
        arrived = rows.get(topic.name)
        if arrived is None or not arrived.count:
            continue
        bad = _fold(cell, arrived, touched)
        draft.rows[topic.name] = arrived.count
        draft.folded[topic.name] = arrived.count - len(bad)
        if bad:
            refused[topic.name] = bad
    if cut.cause is not Cause.URGENT:
        name = RESTLESS[(cut.number + cut.at_ms // 1000) % len(RESTLESS)]
        if name in cell.numbers:
            cell.numbers[name] = (cell.numbers[name] * 31 + cut.number) % 100_000
            touched.add(name)
        if cut.config_hash != cell.config_hash:
            cell.config_hash = cut.config_hash
            touched |= cell.numbers.keys() | cell.decided.keys()
    tables, verdicts = _decide(cell, touched, config)
    draft.table_hash = cell.table_hash
    draft.sites, draft.groups, draft.prefixes, draft.loads = (
        len(cell.table[one.name]) for one in TABLES
    )
    return Effects(tables=list(tables), verdicts=verdicts, refused=refused, epoch=draft)


def _fold(cell: Cell, arrived: TopicRows, touched: set[str]) -> list[Refused]:
    bad = []
    for one in arrived.refused:
        detail: Any = one.detail  # here: the record itself
        key, value = detail
        text: str = (value if value is not None else key or b"").decode()
        name, _, number = text.partition("=")
        if name not in NAMES:
            bad.append(Refused(one.offset, Refusal.UNDECODABLE, "toy"))
            continue
        touched.add(name)
        if value is None:
            cell.numbers.pop(name, None)
        else:
            cell.numbers[name] = (cell.numbers.get(name, 0) * 7 + int(number)) % 100_000
    return bad


def _decide(
    cell: Cell, touched: set[str], config: SteeringConfig
) -> tuple[list[Record], list[VerdictRow]]:
    version, verdicts = running["version"], []
    weights: list[Record] = []
    prefixes: list[Record] = []
    sites: list[Record] = []
    for name in sorted(touched):
        number, before = cell.numbers.get(name), cell.decided.get(name)
        if number is None:
            if before is not None:
                del cell.decided[name]
        elif before is None or abs(number - before) > 50 * config.assignment.min_shift:
            cell.decided[name] = number
        if cell.decided.get(name) != before:
            reason = Reason.PANIC
            verdicts.append(VerdictRow("toy", name, str(before), str(number), reason))
        after = cell.decided.get(name)
        key = f"{cell.partition}:{name}".encode()
        group = None if after is None else f"{cell.partition}:g{after % GROUPS[version]}".encode()
        weights += cell.put(
            LB_WEIGHTS.name, key, None if after is None else b"%d" % (after * version)
        )
        prefixes += cell.put(STEERING_PREFIXES.name, key.rjust(17, b"_") + b"eu", group)
        load = None if after is None else b"%d" % (after // 10 * version)
        sites += cell.put(STEERING_SITES.name, key, load)
    groups: list[Record] = []
    for number in range(max(GROUPS.values())):
        members = [
            name
            for name in sorted(cell.decided)
            if number < GROUPS[version] and cell.decided[name] % GROUPS[version] == number
        ]
        key = f"{cell.partition}:g{number}".encode()
        groups += cell.put(STEERING_GROUPS.name, key, ",".join(members).encode() or None)
    return [*weights, *groups, *prefixes, *sites], verdicts


def reconcile(cell: Cell, topic: str, held: Mapping[bytes, bytes]) -> list[Record]:
    """As pipeline.cell.reconcile."""
    own = cell.table[topic]
    wrong = [Record(topic, key, value) for key, value in own.items() if held.get(key) != value]
    return wrong + [Record(topic, key, None) for key in held if key not in own]


def current(cell: Cell, topic: str, keys: Collection[bytes]) -> dict[bytes, bytes | None]:
    """As pipeline.cell.current."""
    return {key: cell.table[topic].get(key) for key in sorted(keys)}
