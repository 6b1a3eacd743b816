"""Fold a recorded log again and compare every cut with the Epoch that closed it.

The rule is the worker's (topologies/runner.py): a record counts as a cut or is ignored, its rows
are those between the last cut's offsets and its own, its configuration is the one it names. What an
Epoch says falls in two: of what was taken (rows and digest of each topic) and of what came of it
(hash and sizes of the tables, rows folded and refused, notes). So there are two ways to differ, and
they are kept apart: INPUTS_INCOMPLETE, rows are not there any more that the cut took (compaction,
retention), or an earlier cut lacked some or is gone itself, and the result differs for that;
DIFFERENT, the same rows gave another result.

Cells are folded one after the other, the rows of one cut at a time.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
from pydantic import ValidationError

from pipeline.cell import Cell, step
from pipeline.config import CODE_VERSION, SteeringConfig
from pipeline.cut import Cut, CutSequence
from pipeline.effects import Effects
from pipeline.errors import LogError, WireError
from pipeline.replay.archive import CellSpan, Recording
from pipeline.wire.columns import decode_chunk
from pipeline.wire.decode import decode
from pipeline.wire.digest import digest_of
from pipeline.wire.rows import TopicRows
from schemas.registry import BY_NAME, INPUTS, STEERING_CONFIG, STEERING_CUTS, STEERING_EPOCHS

#: Topic -> (rows, digest): what a cut took.
Taken = dict[str, tuple[int, str]]


class Outcome(StrEnum):
    """What became of the comparison of one cut."""

    EQUAL = "equal"
    DIFFERENT = "different"
    INPUTS_INCOMPLETE = "inputs_incomplete"
    WITHOUT_EPOCH = "without_epoch"  # nothing to compare with
    OTHER_CODE = "other_code"  # made by another version of what `step` computes: only folded


@dataclass(frozen=True, slots=True)
class Judged:
    """One cut that was folded. `lead_in`: before the time the recording was asked from. `why`:
    what differs, in words."""

    partition: int
    number: int
    at_ms: int
    outcome: Outcome
    lead_in: bool
    why: tuple[str, ...] = ()


@dataclass(slots=True)
class Tally:
    """The account of a replay: cuts by outcome; the lead-in's apart unless it is compared too."""

    compare_lead_in: bool = False
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    lead_in: int = 0
    ignored: int = 0  # records of the cut log that do not count

    def add(self, judged: Judged) -> bool:
        """Whether the cut is one of those that are compared."""
        if judged.lead_in and not self.compare_lead_in:
            self.lead_in += 1
            return False
        self.outcomes[judged.outcome] += 1
        return True

    @property
    def compared(self) -> int:
        kinds = (Outcome.EQUAL, Outcome.DIFFERENT, Outcome.INPUTS_INCOMPLETE)
        return sum(self.outcomes[kind] for kind in kinds)

    @property
    def all_equal(self) -> bool:
        """Whether something was compared, and all of it was equal."""
        return 0 < self.compared == self.outcomes[Outcome.EQUAL]


class Lane:
    """The records of one input topic of one cell, handed out by offset."""

    def __init__(self, recording: Recording, topic: str, partition: int) -> None:
        self._topic, self._keyed = topic, BY_NAME[topic].keyed
        self._frames = recording.frames(topic, partition)
        self._frame: pl.DataFrame | None = next(self._frames, None)

    def take(self, end: int) -> tuple[TopicRows, int, str]:
        """Remove the records below `end`: their rows, how many they are, and their digest."""
        pieces: list[pl.DataFrame] = []
        while self._frame is not None:
            below = int(np.searchsorted(self._frame.get_column("offset").to_numpy(), end))
            if below:
                pieces.append(self._frame.head(below))
            if below < self._frame.height:
                self._frame = self._frame.slice(below)
                break
            self._frame = next(self._frames, None)
        if not pieces:
            return TopicRows(self._topic), 0, ""
        frame = pl.concat(pieces)
        values: list[bytes | None] = frame.get_column("value").to_list()
        keys = frame.get_column("key").to_list() if self._keyed else None
        offsets: npt.NDArray[np.int64] = frame.get_column("offset").to_numpy()
        rows = decode_chunk(self._topic, values, offsets, keys)
        return rows, len(values), digest_of([values])


def replay(recording: Recording, tally: Tally) -> Iterator[Judged]:
    """Fold every cell; what became of each cut that counts, cell by cell, in order.

    Raises LogError when a cut names a configuration that is not there or not readable.
    """
    configs = _configs(recording)
    for span in recording.manifest.cells:
        yield from _replay_cell(recording, span, configs, tally)


def _replay_cell(
    recording: Recording,
    span: CellSpan,
    configs: Mapping[str, SteeringConfig],
    tally: Tally,
) -> Iterator[Judged]:
    partition = span.partition
    lanes = {topic.name: Lane(recording, topic.name, partition) for topic in INPUTS}
    epochs = _epochs(recording, partition)
    cell, whole = Cell(partition, recording.manifest.partitions), span.log_begin == 0
    sequence = CutSequence(whole=whole)
    for value in _values(recording, STEERING_CUTS.name, partition):
        cut = cut_of(value)
        if cut is None or not sequence.take(cut):
            tally.ignored += 1
            continue
        if cut.config_hash not in configs:
            raise LogError(
                f"cut {cut.number} of cell {partition} names configuration {cut.config_hash}, "
                f"and {STEERING_CONFIG.name} has none such that this version can read"
            )
        rows, taken = _take(lanes, cut)
        effects = step(cell, rows, cut, configs[cut.config_hash])
        found = [decode(epoch)[1] for epoch in epochs.pop(cut.number, ())]
        lacking = [why for epoch in found for why in _lacking(epoch, taken)]
        whole = whole and not lacking
        outcome, why = _judge(cut, found, effects, lacking, whole=whole)
        lead_in = cut.at_ms < recording.manifest.from_ms
        yield Judged(partition, cut.number, cut.at_ms, outcome, lead_in, tuple(why))


def _take(lanes: Mapping[str, Lane], cut: Cut) -> tuple[dict[str, TopicRows], Taken]:
    rows: dict[str, TopicRows] = {}
    taken: Taken = {}
    for topic, lane in lanes.items():
        rows[topic], count, digest = lane.take(cut.offsets.get(topic, 0))
        if count:
            taken[topic] = (count, digest)
    return rows, taken


def _judge(
    cut: Cut, epochs: list[dict[str, Any]], effects: Effects, lacking: list[str], *, whole: bool
) -> tuple[Outcome, list[str]]:
    """`whole`: the log has its beginning, and every cut so far took the rows it once took."""
    if lacking:
        return Outcome.INPUTS_INCOMPLETE, lacking
    if cut.code_version != CODE_VERSION:
        return Outcome.OTHER_CODE, []
    if not epochs:
        return Outcome.WITHOUT_EPOCH, []
    differing = [why for epoch in epochs for why in _differing(epoch, effects)]
    if not differing:
        return Outcome.EQUAL, []
    return (Outcome.DIFFERENT if whole else Outcome.INPUTS_INCOMPLETE), differing


def _lacking(epoch: Mapping[str, Any], taken: Taken) -> list[str]:
    """How the rows that a cut took differ from those it takes now."""
    then = {one["topic"]: (one["rows"], one["digest"]) for one in epoch["inputs"]}
    return [
        f"{topic}: {_rows(then.get(topic))} then, {_rows(taken.get(topic))} now"
        for topic in sorted(then.keys() | taken.keys())
        if then.get(topic) != taken.get(topic)
    ]


def _rows(taken: tuple[int, str] | None) -> str:
    return f"{taken[0]} rows of digest {taken[1]}" if taken else "no rows"


def _differing(epoch: Mapping[str, Any], effects: Effects) -> list[str]:
    """What came of the same rows then and now, where it is not the same."""
    draft = effects.epoch
    then: dict[str, Any] = {
        name: epoch[name] for name in ("table_hash", "prefixes", "groups", "sites")
    }
    now: dict[str, Any] = {
        "table_hash": f"{draft.table_hash:016x}",
        "prefixes": draft.prefixes,
        "groups": draft.groups,
        "sites": draft.sites,
    }
    for one in epoch["inputs"]:
        topic = one["topic"]
        then |= {f"{topic} folded": one["folded"], f"{topic} refused": one["refused"]}
        now[f"{topic} folded"] = draft.folded.get(topic, 0)
        now[f"{topic} refused"] = len(effects.refused.get(topic, ()))
    then["notes"] = {one["name"]: one["count"] for one in epoch["notes"]}
    now["notes"] = dict(draft.notes)
    return [
        f"{name}: {then[name]} then, {now[name]} now" for name in then if then[name] != now[name]
    ]


# -- what a recording holds -----------------------------------------------------------------------


def _values(recording: Recording, topic: str, partition: int) -> Iterator[bytes]:
    for frame in recording.frames(topic, partition):
        for value in frame.get_column("value"):
            yield value or b""


def _configs(recording: Recording) -> dict[str, SteeringConfig]:
    """By the hash that cuts name them with; those that this version can read."""
    configs: dict[str, SteeringConfig] = {}
    for value in _values(recording, STEERING_CONFIG.name, 0):
        record = _read(value, "Config")
        if record is not None:
            with suppress(ValidationError, orjson.JSONDecodeError):
                fields = orjson.loads(record["config"])
                configs[record["hash"]] = SteeringConfig.model_validate(fields)
    return configs


def _epochs(recording: Recording, partition: int) -> dict[int, list[bytes]]:
    """Cut number -> its Epochs as they came (the same one may have been sent twice)."""
    found: dict[int, list[bytes]] = {}
    for value in _values(recording, STEERING_EPOCHS.name, partition):
        epoch = epoch_of(value)
        if epoch is not None:
            found.setdefault(epoch["cut"], []).append(value)
    return found


def cut_of(value: bytes | None) -> Cut | None:
    """What a record of the cut log says; None when it is no cut, which does not count."""
    record = _read(value, "Cut")
    return None if record is None else Cut.from_record(record)


def epoch_of(value: bytes | None) -> dict[str, Any] | None:
    """The fields of an Epoch; None when the record is none."""
    return _read(value, "Epoch")


def _read(value: bytes | None, wanted: str) -> dict[str, Any] | None:
    try:
        name, record = decode(value or b"")
    except WireError:
        return None
    return record if name == wanted else None
