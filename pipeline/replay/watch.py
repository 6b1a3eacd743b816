"""Views of moments, taken while a log is folded.

A `Watch` is a `Change` that changes nothing: before each cut it sees the cell as the last one left
it, and takes its view where a moment lies between the two. So any fold can be watched, several
moments cost one fold, and nothing is folded beyond the last of them."""

from collections.abc import Callable, Sequence

from pipeline.cell import Cell
from pipeline.config import SteeringConfig
from pipeline.cut import Cut
from pipeline.errors import UsageError
from pipeline.replay.archive import Recording
from pipeline.replay.fold import Change, Ignored, Rows, Step, fold, unchanged
from pipeline.replay.view import View, take_view

#: A time as it was written, and the moment that "before the end" counts from -> Unix ms.
ParseTime = Callable[[str, int], int]


def chained(changes: Sequence[Change]) -> Change:
    """Changes one after the other as one."""

    def change(
        cell: Cell, rows: Rows, cut: Cut, config: SteeringConfig
    ) -> tuple[Rows, SteeringConfig]:
        for one in changes:
            rows, config = one(cell, rows, cut, config)
        return rows, config

    return change


class Watch:
    """Takes a view of every cell at each of `moments_ms`: after its last cut at or before it. It
    has to be the last of a chain of changes."""

    def __init__(self, moments_ms: Sequence[int]) -> None:
        self._moments = sorted(set(moments_ms))
        self._parts: dict[int, list[View]] = {moment: [] for moment in self._moments}
        self._waiting: list[int] = []
        self._last: tuple[Cell, Cut, SteeringConfig] | None = None

    def __call__(
        self, cell: Cell, rows: Rows, cut: Cut, config: SteeringConfig
    ) -> tuple[Rows, SteeringConfig]:
        if self._last is not None and self._last[0] is not cell:
            self.end_cell()
        if self._last is None:
            self._waiting = [moment for moment in self._moments if moment >= cut.at_ms]
        else:
            self._take(cut.at_ms)
        self._last = cell, cut, config
        return rows, config

    def end_cell(self) -> None:
        """The cell's log is at its end."""
        self._take(None)
        self._last = None

    def view(self, moment_ms: int, source: str) -> View:
        """What was seen at one of the moments; UsageError when that was before all cuts."""
        self.end_cell()
        parts = self._parts[moment_ms]
        if not parts:
            raise UsageError(f"{source}: no cut of the recording was made by then")
        return View.together(parts, source)

    def _take(self, before_ms: int | None) -> None:
        """The moments that lie before the next cut (None: there is none)."""
        if self._last is None:
            return
        past = [at for at in self._waiting if before_ms is None or at < before_ms]
        if past:
            view = take_view(*self._last)
            for moment in past:
                self._parts[moment].append(view)
        self._waiting = self._waiting[len(past) :]


def watched(
    recording: Recording,
    moments_ms: Sequence[int],
    change: Change = unchanged,
    each: Callable[[Step], None] = lambda step: None,
) -> Watch:
    """Fold every cell as far as the last moment, `each` being shown every step up to it."""
    watch, last_ms = Watch(moments_ms), max(moments_ms)
    for span in recording.manifest.cells:
        for step in fold(recording, span, Ignored(), chained([change, watch])):
            if step.cut.at_ms > last_ms:
                break
            each(step)
        watch.end_cell()
    return watch


def moment_of(recording: Recording, time: str, parse: ParseTime) -> int:
    """The moment that a time means, "" the last one. UsageError when it lies behind the end."""
    end = end_ms(recording)
    moment = parse(time, end) if time else end
    if moment > max(end, recording.manifest.to_ms):
        raise UsageError(f"{time}: lies behind the end of {recording.path}")
    return moment


def end_ms(recording: Recording) -> int:
    """When the last cut of a recording was made."""
    return max(cell.last_at_ms for cell in recording.manifest.cells)
