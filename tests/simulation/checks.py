"""What has to be true in the end (the laws of DESIGN section 6), held against the broker's own
memory of everything that was ever written."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.config import SteeringConfig
from pipeline.cut import Cut, CutSequence
from pipeline.effects import Effects
from pipeline.wire.decode import decode
from pipeline.wire.digest import digest_of
from schemas.registry import (
    INPUTS,
    STEERING_CUTS,
    STEERING_DEAD_LETTERS,
    STEERING_EPOCHS,
    TABLES,
)
from tests.simulation.loop import SimError

if TYPE_CHECKING:
    from tests.simulation.run import Run

#: From which cut on which code folded.
Lineage = tuple[tuple[int, int], ...]


@dataclass
class Expected:
    """One cut that counts, folded without interruption."""

    cut: Cut
    effects: Effects
    digests: dict[str, str]


def check(run: "Run") -> None:
    """Raises SimError with what does not hold."""
    for partition in range(run.partitions):
        cuts = counted(run, partition)
        folds = Folds(run, partition, cuts)
        epochs = epochs_of(run, partition)
        _check_epochs(cuts, folds, epochs)
        _check_accounted(run, partition, cuts, folds, epochs)
    _check_followers(run)


def counted(run: "Run", partition: int) -> list[Cut]:
    """The cuts that count, of all that were ever appended."""
    sequence = CutSequence(whole=True)
    records = run.broker.parts[STEERING_CUTS.name, partition].written
    cuts = [Cut.from_record(decode(record.value or b"")[1]) for record in records]
    return [cut for cut in cuts if sequence.take(cut)]


def epochs_of(run: "Run", partition: int) -> list[dict[str, Any]]:
    """Every Epoch that was ever written, in order."""
    records = run.broker.parts[STEERING_EPOCHS.name, partition].written
    return [decode(record.value or b"")[1] for record in records]


class Folds:
    """The uninterrupted runs over all cuts. When the code changes on the way, what a worker goes on
    from is what the old code left in the snapshot that it found: a lineage. Without an upgrade
    there is one."""

    def __init__(self, run: "Run", partition: int, cuts: list[Cut]) -> None:
        self._run, self._partition, self._cuts = run, partition, cuts
        self._known: dict[Lineage, dict[int, Expected]] = {}

    def of(self, epoch: Mapping[str, Any] | None, cut: Cut) -> Expected:
        """What a cut leads to, in the lineage that its Epoch tells."""
        notes = epoch["notes"] if epoch else ()
        told = sorted((int(one["name"]), one["count"]) for one in notes if one["name"].isdigit())
        lineage = tuple(told) or ((1, cut.code_version),)
        if lineage[-1][1] != cut.code_version:
            raise SimError(f"cut {cut.number} is of version {cut.code_version}, not {lineage}")
        if lineage[0][0] != 1:
            raise SimError(f"L2: cut {cut.number} comes of a cell without its past: {lineage}")
        if lineage not in self._known:
            folded = fold(self._run, self._partition, self._cuts, lineage)
            self._known[lineage] = {one.cut.number: one for one in folded}
        return self._known[lineage][cut.number]


def fold(run: "Run", partition: int, cuts: list[Cut], lineage: Lineage) -> list[Expected]:
    """The uninterrupted run over all cuts, by the code of `lineage`."""
    parts = {topic.name: run.broker.parts[topic.name, partition].written for topic in INPUTS}
    taken = dict.fromkeys(parts, 0)
    cell = run.world.cell(partition, run.partitions)
    folded = []
    for cut in cuts:
        values, rows = {}, {}
        for topic, end in cut.offsets.items():
            records = parts[topic][taken[topic] : end]
            taken[topic] = max(end, taken[topic])
            if records:
                values[topic] = [record.value for record in records]
                rows[topic] = run.world.decode(topic, records)
        version = next(code for first, code in reversed(lineage) if cut.number >= first)
        effects = run.world.step(cell, rows, cut, config_of(run, cut), version)
        digests = {topic: digest_of([some]) for topic, some in values.items()}
        folded.append(Expected(cut, effects, digests))
    return folded


def config_of(run: "Run", cut: Cut) -> SteeringConfig:
    return run.configs[cut.config_hash]


def _check_epochs(cuts: list[Cut], folds: Folds, epochs: list[dict[str, Any]]) -> None:
    by_number = {cut.number: cut for cut in cuts}
    hashes: dict[int, str] = {}
    for epoch in epochs:
        cut = by_number.get(epoch["cut"])
        if cut is None or cut.term != epoch["term"]:
            raise SimError(f"an Epoch of a cut that does not count: {epoch}")
        if epoch["table_hash"] != hashes.setdefault(cut.number, epoch["table_hash"]):
            raise SimError(f"L2: cut {cut.number} was published twice, and differently: {epoch}")
        expected = folds.of(epoch, cut)
        hash_then = f"{expected.effects.epoch.table_hash:016x}"
        if epoch["table_hash"] != hash_then:
            raise SimError(
                f"L2: cut {cut.number} of term {cut.term} has the hash {hash_then} when nothing "
                f"happens, and was published with {epoch['table_hash']}"
            )
        for one in epoch["inputs"]:
            if one["rows"] != one["folded"] + one["refused"]:
                raise SimError(f"L3: cut {cut.number}: {one}")
        digests = {one["topic"]: one["digest"] for one in epoch["inputs"]}
        if digests != expected.digests:
            raise SimError(f"L3: cut {cut.number} took {digests}, and {expected.digests} are there")


def _check_accounted(
    run: "Run",
    partition: int,
    cuts: list[Cut],
    folds: Folds,
    epochs: list[dict[str, Any]],
) -> None:
    closed = {epoch["cut"]: epoch for epoch in epochs}
    letters = Counter(
        (letter["topic"], letter["offset"], letter["last_offset"])
        for record in run.broker.parts[STEERING_DEAD_LETTERS.name, partition].written
        for letter in [decode(record.value or b"")[1]]
    )
    refused: set[tuple[str, int]] = set()
    for at, cut in enumerate(cuts):
        expected = folds.of(closed.get(cut.number), cut)
        of_cut = {(t, one.offset) for t, some in expected.effects.refused.items() for one in some}
        refused |= of_cut
        if cut.number not in closed:
            if any(later.code_version != cut.code_version for later in cuts[at:]):
                continue  # other code goes on, and says nothing of this one's
            if all(one.code_version == cut.code_version for one in cuts):
                raise SimError(f"cut {cut.number} of term {cut.term} has no Epoch")
        if lost := of_cut - {(topic, offset) for topic, offset, _ in letters}:
            raise SimError(f"L3: cut {cut.number} refused {sorted(lost)}: no dead letters")
    if beyond := {(topic, offset) for topic, offset, _ in letters} - refused:
        raise SimError(f"L3: dead letters of rows that nobody refused: {sorted(beyond)}")
    # What cells tell each other at their last cut is for the next.
    given = [topic.name for topic in INPUTS if topic.writer != "workers"]
    ends = {topic: run.broker.parts[topic, partition].end for topic in given}
    if {topic: cuts[-1].offsets[topic] for topic in given} != ends:
        raise SimError(f"L3: rows up to {ends}, taken up to {cuts[-1].offsets}")


def _check_followers(run: "Run") -> None:
    from tests.simulation import followers

    last = {
        partition: max(epochs_of(run, partition), key=lambda epoch: epoch["cut"])
        for partition in range(run.partitions)
    }
    for topic in (*TABLES, STEERING_EPOCHS):
        for partition in range(run.partitions):
            part = run.broker.parts[topic.name, partition]
            part.compact(part.end, tombstones=topic in TABLES)
    tables = {"one who starts now": followers.load(run)}
    tables |= {one.name: one.table for one in run.followers}
    for name, table in tables.items():
        for partition, epoch in last.items():
            cell = table.cell(partition)
            if cell.cut != epoch["cut"]:
                raise SimError(f"{name} stands at cut {cell.cut}, the last is {epoch['cut']}")
            if wrong := cell.mismatch():
                raise SimError(f"{name} does not hold the last Epoch's table: {wrong}")
