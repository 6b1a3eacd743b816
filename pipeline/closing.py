"""What closes a cut beside its tables: verdicts, dead letters and the Epoch, as records.

One way for the worker and for a replay, so that what a replay publishes reads like what was
published.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.cut import Cut
from pipeline.effects import Effects, Record
from pipeline.wire.digest import Raw
from pipeline.wire.encode import encode
from pipeline.wire.rows import Refused
from schemas.registry import (
    STEERING_DEAD_LETTERS,
    STEERING_EPOCHS,
    STEERING_VERDICTS,
    TABLES,
)

RECORD_BYTES_MAX = 4096  # of a dead letter's copy


def epoch_fields(
    cut: Cut,
    effects: Effects,
    digests: Mapping[str, str],
    ends: Mapping[str, int],
    behind_ms: int,
    *,
    reconciled: bool,
) -> dict[str, Any]:
    """The fields of a cut's Epoch. `digests`: of the raw records, by topic; `ends`: the offset
    after the last record of each table topic, in the cut's partition."""
    draft = effects.epoch
    return {
        "partition": cut.partition,
        "cut": cut.number,
        "term": cut.term,
        "at_ms": cut.at_ms,
        "code_version": cut.code_version,
        "table_hash": f"{draft.table_hash:016x}",
        "prefixes": draft.prefixes,
        "groups": draft.groups,
        "sites": draft.sites,
        "inputs": [
            {
                "topic": topic,
                "rows": rows,
                "folded": draft.folded.get(topic, 0),
                "refused": len(effects.refused.get(topic, ())),
                "digest": digests.get(topic, ""),
            }
            for topic, rows in sorted(draft.rows.items())
        ],
        "outputs": [{"topic": topic.name, "end_offset": ends[topic.name]} for topic in TABLES],
        "notes": [{"name": name, "count": count} for name, count in sorted(draft.notes.items())],
        "behind_ms": behind_ms,
        "reconciled": reconciled,
    }


def epoch_record(fields: Mapping[str, Any]) -> Record:
    """An Epoch as it is published."""
    key = str(fields["partition"]).encode()
    return Record(STEERING_EPOCHS.name, key, encode("Epoch", fields))


def verdict_records(cut: Cut, effects: Effects) -> Iterator[Record]:
    """A cut's changes of mind."""
    for row in effects.verdicts:
        record = {
            "at_ms": cut.at_ms,
            "cut": cut.number,
            "kind": row.kind,
            "entity": row.entity,
            "from_state": row.from_state,
            "to_state": row.to_state,
            "reason": row.reason,
            "detail": row.detail,
        }
        yield Record(STEERING_VERDICTS.name, row.entity.encode(), encode("Verdict", record))


def dead_letter_records(
    cut: Cut, effects: Effects, raw: Mapping[str, Raw], limit: int
) -> Iterator[Record]:
    """One letter a record; beyond `limit` of one topic and Reason, one letter stands for all the
    rest (bounded, and still accounted for: its count says how many)."""
    for topic, refused in sorted(effects.refused.items()):
        by_reason: dict[str, list[Refused]] = {}
        for one in sorted(refused, key=lambda one: one.offset):
            by_reason.setdefault(one.reason, []).append(one)
        for group in by_reason.values():
            for one in group[:limit]:
                yield _dead_letter(cut, topic, [one], raw)
            if group[limit:]:
                yield _dead_letter(cut, topic, group[limit:], raw)


def _dead_letter(cut: Cut, topic: str, refused: list[Refused], raw: Mapping[str, Raw]) -> Record:
    first = refused[0]
    record = {
        "at_ms": cut.at_ms,
        "topic": topic,
        "partition": cut.partition,
        "offset": first.offset,
        "last_offset": refused[-1].offset,
        "count": len(refused),
        "reason": str(first.reason),
        "detail": first.detail,
        "record": raw[topic].at(first.offset)[:RECORD_BYTES_MAX],
    }
    return Record(STEERING_DEAD_LETTERS.name, topic.encode(), encode("DeadLetter", record))
