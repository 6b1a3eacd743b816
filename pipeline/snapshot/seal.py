"""A snapshot of a cell: sections as bytes, and one among them, "cell", that binds them together.

"cell" carries the checksum of every other section, so that sections of two snapshots (a torn write,
a mixture of slots) are never taken for one, and the partition that they belong to."""

from collections.abc import Mapping
from typing import Any

from pipeline.errors import SnapshotError
from pipeline.state.codec import Fields, Packed, checksum_of, pack, unpack

SEAL = "cell"


def sealed(
    partition: int, partitions: int, sections: Mapping[str, Packed], fields: Mapping[str, Any]
) -> dict[str, Packed]:
    """The sections, and SEAL with `fields` behind them."""
    holds = {name: f"{section.checksum:016x}" for name, section in sections.items()}
    place = {"partition": partition, "partitions": partitions, "sections": holds}
    return {**sections, SEAL: pack(SEAL, {**place, **fields})}


def opened(partition: int, partitions: int, sections: Mapping[str, bytes]) -> Fields:
    """The fields of SEAL. SnapshotError unless the others are just those that it names and the
    snapshot is of this partition. (That a section is whole shows when it is unpacked.)"""
    if SEAL not in sections:
        raise SnapshotError(SEAL, "is not there")
    fields = unpack(SEAL, sections[SEAL])
    place = (fields["partition"], fields["partitions"])
    if place != (partition, partitions):
        raise SnapshotError(
            SEAL,
            f"of partition {place[0]} of {place[1]}, not of partition {partition} of {partitions}",
        )
    holds = fields["sections"]
    for name in sorted({*holds, *sections} - {SEAL}):
        if name not in sections:
            raise SnapshotError(name, "is not there")
        if name not in holds:
            raise SnapshotError(name, "belongs to no section of this snapshot")
        found = f"{checksum_of(sections[name]):016x}"
        if found != holds[name]:
            raise SnapshotError(name, f"of another snapshot: {found}, not {holds[name]}")
    return fields
