"""What taking a site or region out of service would do, asked of a running plane: the newest part
of its log, recorded into a file that does not stay, and folded with and without."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.broker.settings import BrokerSettings
from pipeline.errors import LogError, RecordingError
from pipeline.replay.archive import Recording
from pipeline.replay.changes import Drained
from pipeline.replay.recorder import record
from pipeline.replay.watch import end_ms
from pipeline.replay.whatif import WhatIf, begins_ms, what_if

#: So much of the log is looked at: several buckets of demand, so that what would have been is
#: planned for as it would be. What comes before it, from a snapshot on, is folded as it was.
LOOK_BACK_MS = 15_000

#: Told (done, total), first of the records and then of the cuts.
Progress = Callable[[int, int], None]


async def preview(
    broker: BrokerSettings,
    change: Drained,
    regions: Sequence[str],
    now_ms: int,
    progress: Progress,
) -> WhatIf:
    """Fold the cells of `regions` as they were and with `change` (which must begin at or before
    `now_ms` - LOOK_BACK_MS). Raises LogError where no cut was made since then, BrokerError,
    TopicMismatch."""
    with TemporaryDirectory(prefix="edgesteer-") as folder:
        path = Path(folder) / "preview"
        since_ms = now_ms - LOOK_BACK_MS
        try:
            await record(broker, path, since_ms, now_ms, regions=regions, progress=progress)
        except RecordingError:
            raise LogError(
                f"no preview: no cut of region {', '.join(regions)} was made in the last "
                f"{LOOK_BACK_MS // 1000} s (is a worker running?); --yes goes on without one"
            ) from None
        with Recording(path) as recording:
            done, total = 0, 2 * sum(cell.cuts for cell in recording.manifest.cells)

            def advance() -> None:
                nonlocal done
                done += 1
                progress(done, total)

            begin, end = begins_ms(recording), end_ms(recording)
            return what_if(recording, [change], change.words, begin, end, advance)
