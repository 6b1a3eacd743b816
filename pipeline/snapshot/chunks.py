"""Snapshots as records of a table: what is written, in which order, and how it is read again.

Idea: the parts of a section (its index, its arrays) are cut into chunks of fixed size, and a chunk
that is as it was at the last snapshot is not written again. It is compared by its hash, where it
lies, so a snapshot of which little changed costs a walk over memory and copies little.
Rules:
- A key says who wrote it, by term, and for which cut; nothing is ever overwritten. So the last
  snapshot stays whole until the next one is, and neither a zombie nor a record that arrives twice
  can spoil what another snapshot is made of.
- What is too much to be copied while a cut waits (all of it, for who takes over) is written ahead,
  some after each cut, so that no copy of all is ever held. No chunk is written ahead twice, for
  what changed again will do so once more; when few are left that were not, the snapshot is taken.
- The commit record is written last. It names every chunk with the cut that it was written for, its
  size and hash, where to read on in the cut log, and how far the cell's own output was checked. A
  snapshot of which anything is missing is torn, and the one before is used. Any whole one is good,
  whoever wrote it: a worker folds only cuts that count.
- What neither the last snapshot nor the new one names is removed once the new one is committed.
Rejected: writing sections whole (246 MB at a million prefixes for one changed route); two places
for each chunk, used in turn (a record that arrives twice, late, lies in the newest snapshot's);
keys by content (a zombie's removals would hit chunks that its successor shares); boundaries by
content (arrays are changed in place and grow at their end).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, groupby, takewhile

import numpy as np
import xxhash

from pipeline.cut import Cut
from pipeline.errors import SnapshotError
from pipeline.state.codec import Fields, Packed, pack, unpack

_COMMIT = "commit"
#: Copied ahead at a time, while the cell holds still: 5 to 10 ms.
COPY_BYTES = 24 << 20

#: Section, number of the part, number of the chunk in the part.
Address = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Placed:
    """A chunk: the number of the cut that it was written for, and what it is."""

    cut: int
    size: int
    digest: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The commit record of a snapshot. `log_next`: the offset in the cut log of the record after
    the cut's. `verified`: table topic -> the offset up to which the topic is known to hold just
    what the cell had published."""

    term: int
    cut: Cut
    log_next: int
    verified: dict[str, int]
    chunks: dict[Address, Placed]

    @property
    def keys(self) -> set[bytes]:
        """The keys of its chunks and its own."""
        chunks = {_key(self.term, address, one.cut) for address, one in self.chunks.items()}
        return chunks | {self.key}

    @property
    def key(self) -> bytes:
        return _commit_key(self.term, self.cut.number)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that was read whole: the sections' bytes by name, and its commit record."""

    commit: Commit
    sections: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write, in this order: the chunks, then the commit record, and when that is safe the
    removals. Where chunks are written ahead there is neither of the two; `placed`: these chunks."""

    chunks: list[tuple[bytes, bytes]]
    placed: dict[Address, Placed]
    commit: Commit | None = None
    obsolete: list[bytes] = field(default_factory=list)

    @property
    def records(self) -> list[tuple[bytes, bytes]]:
        """The commit record, if there is one."""
        return [(self.commit.key, _encoded(self.commit))] if self.commit is not None else []

    @property
    def size_bytes(self) -> int:
        """Of the chunks."""
        return sum(len(value) for _, value in self.chunks)


class Chunks:
    """What one writer has in the table of one cell."""

    def __init__(self, term: int, held: Iterable[bytes], kept: Iterable[bytes]) -> None:
        """`held`: every key in the table. `kept`: those of the last snapshot."""
        self._term = term
        self._known, self._kept = set(held), set(kept)
        self._there: dict[Address, Placed] = {}  # by this writer: of its last snapshot, and ahead
        self._ahead = set[Address]()  # written since its last snapshot

    def under(self, term: int) -> "Chunks":
        """The same table, by a writer of another term."""
        return Chunks(term, self._known, self._kept)

    def plan(
        self, sections: Mapping[str, Packed], cut: Cut, log_next: int, verified: Mapping[str, int]
    ) -> Plan:
        """The next records of a snapshot: all that it needs, or, where too much of that was not
        written since the last one, some of it ahead, which need not be written again if it stays as
        it is. The cell may go on afterwards; ask again once the plan is `written`."""
        placed: dict[Address, Placed] = {}
        changed: list[tuple[Address, memoryview]] = []
        for name, section in sections.items():
            for part, number, data, digest in section.pieces:
                address, size = (name, part, number), len(data)
                there = self._there.get(address)
                if there is None or (there.digest, there.size) != (digest, size):
                    there = Placed(cut.number, size, digest)
                    changed.append((address, data))
                placed[address] = there
        waiting = [one for one in changed if one[0] not in self._ahead]
        some = waiting[: _fitting(waiting)]
        if len(some) < len(waiting):
            self._ahead.update(address for address, _ in some)
            fresh = {address: placed[address] for address, _ in some}
            return Plan(self._copies(some, cut), fresh)
        self._ahead = set()
        commit = Commit(self._term, cut, log_next, dict(verified), placed)
        obsolete = sorted(self._known - self._kept - commit.keys)
        return Plan(self._copies(changed, cut), {}, commit, obsolete)

    def _copies(
        self, pieces: list[tuple[Address, memoryview]], cut: Cut
    ) -> list[tuple[bytes, bytes]]:
        return [(_key(self._term, one, cut.number), bytes(data)) for one, data in pieces]

    def written(self, plan: Plan) -> None:
        """The plan's records are written, in their order, and the obsolete ones removed."""
        self._there |= plan.placed
        self._known.update(key for key, _ in plan.chunks)
        if plan.commit is not None:
            self._there = dict(plan.commit.chunks)
            self._known.difference_update(plan.obsolete)
            self._kept = plan.commit.keys
            self._known |= self._kept


def _fitting(pieces: list[tuple[Address, memoryview]]) -> int:
    """How many of the first pieces are copied at a time: at least one."""
    ends = accumulate(len(data) for _, data in pieces)
    return max(1, sum(1 for _ in takewhile(lambda end: end <= COPY_BYTES, ends)))


def restore(held: Mapping[bytes, bytes]) -> tuple[Snapshot | None, list[SnapshotError]]:
    """The newest whole snapshot among the records of one cell's table, and what was wrong with the
    newer ones."""
    wrong: list[SnapshotError] = []
    commits: list[Commit] = []
    for key in sorted(held):
        if is_commit(key):
            try:
                commits.append(decoded_commit(held[key]))
            except SnapshotError as error:
                wrong.append(error)
    for commit in sorted(commits, key=lambda one: (one.cut.number, one.term), reverse=True):
        try:
            return Snapshot(commit, _joined(commit, held)), wrong
        except SnapshotError as error:
            wrong.append(error)
    return None, wrong


def _joined(commit: Commit, held: Mapping[bytes, bytes]) -> dict[str, bytes]:
    def piece(address: Address, placed: Placed) -> bytes:
        data = held.get(_key(commit.term, address, placed.cut))
        if data is None or xxhash.xxh3_64_intdigest(data) != placed.digest:
            name = "/".join(map(str, address))
            raise SnapshotError(
                address[0],
                f"torn: of the snapshot at cut {commit.cut.number}, chunk {name} "
                + ("is not there" if data is None else "is of another one"),
            )
        return data

    # Section by section, so that no more than one of them is held twice; in the order of the bytes.
    by_section = groupby(commit.chunks.items(), lambda one: one[0][0])
    return {name: b"".join([piece(*one) for one in part]) for name, part in by_section}


# -- keys and the commit record -------------------------------------------------------------------


def is_commit(key: bytes) -> bool:
    """Whether the record with this key is a commit record."""
    return key.split(b"/")[1:2] == [_COMMIT.encode()]


def _key(term: int, address: Address, cut: int) -> bytes:
    section, part, number = address
    return f"{term:08x}/chunk/{section}/{part}/{number}/{cut}".encode()


def _commit_key(term: int, cut: int) -> bytes:
    return f"{term:08x}/{_COMMIT}/{cut}".encode()


def _encoded(commit: Commit) -> bytes:
    names = list(dict.fromkeys(address[0] for address in commit.chunks))
    number_of = {name: number for number, name in enumerate(names)}
    fields = {
        "term": commit.term,
        "cut": commit.cut.to_record(),
        "log_next": commit.log_next,
        "verified": commit.verified,
        "names": names,
        "section": np.array([number_of[one[0]] for one in commit.chunks], np.int32),
        "part": np.array([one[1] for one in commit.chunks], np.int32),
        "number": np.array([one[2] for one in commit.chunks], np.int32),
        "cuts": np.array([one.cut for one in commit.chunks.values()], np.int64),
        "size": np.array([one.size for one in commit.chunks.values()], np.int64),
        "digest": np.array([one.digest for one in commit.chunks.values()], np.uint64),
    }
    return bytes(pack(_COMMIT, fields))


def decoded_commit(data: bytes) -> Commit:
    """The commit record; SnapshotError for bytes that are none."""
    fields: Fields = unpack(_COMMIT, data)
    names = fields["names"]
    addresses = zip(
        [names[one] for one in fields["section"].tolist()],
        fields["part"].tolist(),
        fields["number"].tolist(),
        strict=True,
    )
    stand = (fields[name].tolist() for name in ("cuts", "size", "digest"))
    placed = (Placed(*one) for one in zip(*stand, strict=True))
    return Commit(
        term=fields["term"],
        cut=Cut.from_record(fields["cut"]),
        log_next=fields["log_next"],
        verified=dict(fields["verified"]),
        chunks=dict(zip(addresses, placed, strict=True)),
    )
