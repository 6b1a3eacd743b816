"""What one address was answered at a moment, why, and on which records that rests.

Idea: the fold up to the last cut that counted at or before the moment is the state that answered;
a Trail (trail.py) goes along and keeps the offsets, a Timeline (served.py) what stood published
around the address. The answer is the follower's own `who` over that, so it cannot differ from what
a follower said. Facts (facts.py) are then asked of the cell before anything later is folded into
it; cells are folded one after the other, and the one whose prefix wins tells the rest.

Whether the fold is what happened says the Epoch of the cut: `agrees` is False where its hash is
another one, and then nothing here is certain (edgesteer replay says since when)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from pipeline.errors import Unexplained
from pipeline.follow.lookup import CLASSES
from pipeline.replay.archive import Recording
from pipeline.replay.explanation import Explanation
from pipeline.replay.folded import Asked, Folded
from pipeline.replay.moves import Move, move_of, sites_of
from pipeline.replay.served import changes
from pipeline.replay.words import served_text
from pipeline.wire.address import PREFIX_SIZE, format_address

#: Told now and then: cuts folded, cuts there are.
Progress = Callable[[int, int], None]

#: Verdicts are shown from so long before the last change on.
_BEFORE_MS = 60_000


def explain(
    recording: Recording,
    address: bytes,
    at_ms: int,
    traffic_class: str = "VOD",
    *,
    region: str | None = None,
    since_ms: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Explanation:
    """What `address` (16 bytes) was answered at a time for a class of CLASSES. Moves since
    `since_ms`, without it the last one. Raises Unexplained when the time lies outside of the
    recording or no prefix covered the address; LogError as the fold does."""
    assert traffic_class in CLASSES
    _check_time(recording, at_ms)
    asked = Asked(address, at_ms, traffic_class, region)
    done, total = 0, sum(span.cuts for span in recording.manifest.cells)
    cells: dict[int, Folded] = {}
    for span in recording.manifest.cells:
        folded = Folded(recording, span, asked, partial(_tell, progress, done, total))
        done += span.cuts
        if folded.timeline.entries:
            cells[span.partition] = folded
    timelines = [one.timeline.entries for one in cells.values()]
    answer, found = changes(timelines, address, traffic_class, region)
    since = since_ms if since_ms is not None else found[-1].entry.cut.at_ms if found else at_ms
    kept = [one for one in found if one.entry.cut.at_ms >= since]
    moves = tuple(move_of(one, cells[one.entry.cut.partition].witness) for one in kept)
    if answer is None:
        raise Unexplained(_nobody(asked, cells, moves))
    explained = cells[answer.partition].explained
    assert explained is not None  # the best of all cells is the best of its own
    since = since_ms if since_ms is not None else since - _BEFORE_MS
    names = {*sites_of(answer), *(site for one in moves for site in sites_of(one.before))}
    regions = {answer.region, *(one.before.region for one in moves if one.before is not None)}
    verdicts = [one for cell in cells.values() for one in cell.verdicts(names, regions, since)]
    covers = [cover for cell in cells.values() for cover in cell.covers]
    return replace(
        explained,
        known_since_ms=max(one.timeline.entries[0].cut.at_ms for one in cells.values()),
        moves=moves,
        verdicts=tuple(sorted(verdicts, key=lambda one: one.told.at_ms)),
        covers=tuple(sorted(covers, key=lambda one: (-one.prefix[PREFIX_SIZE - 1], one.region))),
    )


def _tell(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _check_time(recording: Recording, at_ms: int) -> None:
    spans = recording.manifest.cells
    first = min((span.first_at_ms for span in spans), default=0)
    last = max((span.last_at_ms for span in spans), default=0)
    if not first <= at_ms <= max(last, recording.manifest.to_ms):
        raise Unexplained(
            f"nothing is recorded of {_iso(at_ms)}: the cuts are of {_iso(first)} to {_iso(last)}"
        )


def _nobody(asked: Asked, cells: dict[int, Folded], moves: tuple[Move, ...]) -> str:
    where = f" in region {asked.region}" if asked.region else ""
    published = sorted({name for one in cells.values() for name in one.regions})
    text = (
        f"no prefix covered {format_address(asked.address)}{where} at {_iso(asked.at_ms)}; "
        f"regions with a table then: {', '.join(published) or 'none'}"
    )
    for move in (one for one in moves[-1:] if one.before is not None):
        text += (
            f". Until {_iso(move.cut.at_ms)} (cut {move.cut.partition}/{move.cut.number}) it was "
            f"served by {served_text(move.before)}: {move.why}"
        )
    return text


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
