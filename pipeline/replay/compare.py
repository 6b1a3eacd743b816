"""Replay: compare every cut of a recording, folded again, with the Epoch that closed it.

What an Epoch says falls in two: of what was taken (rows and digest of each topic) and of what came
of it (hash and sizes of the tables, rows folded and refused, notes). So there are two ways to
differ, and they are kept apart: INPUTS_INCOMPLETE, rows are not there any more that the cut took
(compaction, retention), or an earlier cut lacked some or is gone itself, and the result differs for
that; DIFFERENT, the same rows gave another result.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pipeline.config import CODE_VERSION
from pipeline.cut import Cut
from pipeline.effects import Effects
from pipeline.replay.archive import Recording
from pipeline.replay.fold import Change, Ignored, Step, Taken, epochs_by_cut, fold, unchanged
from pipeline.replay.manifest import CellSpan
from pipeline.wire.decode import decode


class Outcome(StrEnum):
    """What became of the comparison of one cut."""

    EQUAL = "equal"
    DIFFERENT = "different"
    INPUTS_INCOMPLETE = "inputs_incomplete"
    WITHOUT_EPOCH = "without_epoch"  # nothing to compare with
    #: Made by another version of what `step` computes; or different, with such cuts before it: the
    #: worker had their state from a snapshot, here they were folded by this version.
    OTHER_CODE = "other_code"


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
    ignored: Ignored = field(default_factory=Ignored)

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


def replay(recording: Recording, tally: Tally, change: Change = unchanged) -> Iterator[Judged]:
    """Fold every cell; what became of each cut that counts, cell by cell, in order. `change` is for
    those that look on: what a real one makes would be compared with what was.

    Raises LogError when a cut names a configuration that is not there or not readable.
    """
    for span in recording.manifest.cells:
        judge = Judge(recording, span)
        for step in fold(recording, span, tally.ignored, change):
            yield judge(step)


class Judge:
    """Compares the cuts of one cell, given one after the other."""

    def __init__(self, recording: Recording, span: CellSpan) -> None:
        self._epochs = epochs_by_cut(recording, span.partition)
        self._whole = span.whole
        self._other_code = False  # came before

    def __call__(self, step: Step) -> Judged:
        cut = step.cut
        found = [decode(epoch)[1] for epoch in self._epochs.pop(cut.number, ())]
        lacking = [why for epoch in found for why in _lacking(epoch, step.taken)]
        self._whole = self._whole and not lacking
        outcome, why = _judge(cut, found, step.effects, lacking, whole=self._whole)
        self._other_code |= cut.code_version != CODE_VERSION
        if outcome is Outcome.DIFFERENT and self._other_code:
            outcome = Outcome.OTHER_CODE
        return Judged(cut.partition, cut.number, cut.at_ms, outcome, step.lead_in, tuple(why))


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
