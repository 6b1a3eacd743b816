"""The broker's log as a recording that goes away again, for commands that fold one."""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.common import parse_time_ms, progress_line, run_async

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings


@contextmanager
def fetched_log(
    broker: "BrokerSettings", since_ms: int = 0, regions: Collection[str] = ()
) -> Iterator[Path]:
    """The log so far, with what it takes to fold it from `since_ms` on (0: all of it); of the cells
    that hold `regions`, or of all."""
    from pipeline.replay.recorder import record

    with tempfile.TemporaryDirectory(prefix="edgesteer-") as folder:
        file = Path(folder) / "log"
        with progress_line("records") as progress:
            now_ms = parse_time_ms("now")
            work = record(broker, file, since_ms, now_ms, regions=regions, progress=progress)
            run_async(work)
        yield file
