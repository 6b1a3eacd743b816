"""`edgesteer replay`: fold a recording again and compare it with what was published."""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import (
    JsonOption,
    emit,
    iso,
    may_take_broker,
    note,
    parse_time_ms,
    progress_line,
    run_async,
    say,
)

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings
    from pipeline.replay.archive import Manifest, Recording
    from pipeline.replay.compare import Judged, Tally

#: Cuts that a person is told of one by one.
TOLD_MAX = 20


@may_take_broker
def command(
    broker: "Callable[[], BrokerSettings]",
    file: Annotated[
        Path | None, typer.Argument(help="A recording; without one the broker's whole log.")
    ] = None,
    lead_in: Annotated[
        bool, typer.Option("--lead-in", help="Compare the cuts before the recording's --from too.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Fold a recorded log again, offline, and compare every cut with the Epoch that closed it.

    Status 1 unless every cut that was compared is equal. Nothing is written to any topic.
    """
    os.environ["RUST_BACKTRACE"] = "0"  # bad input makes polars' reader panic (caught): a line each
    from pipeline.replay.archive import Recording
    from pipeline.replay.compare import Tally

    with ExitStack() as stack:
        if file is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgesteer-replay-"))
            file = Path(folder) / "log"
            _fetch(broker(), file)
        recording = stack.enter_context(Recording(file))
        tally, seconds = Tally(compare_lead_in=lead_in), time.perf_counter()
        _fold(recording, tally, json)
        _end(recording.manifest, tally, time.perf_counter() - seconds, json)
    if not tally.all_equal:
        raise typer.Exit(1)


def _fetch(broker: "BrokerSettings", file: Path) -> None:
    """The whole log so far as a recording."""
    from pipeline.replay.recorder import record

    with progress_line("records") as progress:
        run_async(record(broker, file, 0, parse_time_ms("now"), progress=progress))


def _fold(recording: "Recording", tally: "Tally", json: bool) -> None:
    from pipeline.replay.compare import Outcome, replay

    total, told = sum(cell.cuts for cell in recording.manifest.cells), 0
    with progress_line("cuts") as progress:
        for done, judged in enumerate(replay(recording, tally), 1):
            progress(done, total)
            compared = tally.add(judged)
            if compared and judged.outcome in (Outcome.DIFFERENT, Outcome.INPUTS_INCOMPLETE):
                told += 1
                if json or told <= TOLD_MAX:
                    _show(judged, json)
    if told > TOLD_MAX and not json:
        say(f"and {told - TOLD_MAX:,} more")


def _show(judged: "Judged", json: bool) -> None:
    if json:
        emit(
            {
                "partition": judged.partition,
                "cut": judged.number,
                "at": iso(judged.at_ms),
                "outcome": judged.outcome,
                "why": judged.why,
            }
        )
        return
    outcome = judged.outcome.replace("_", " ")
    say(f"{iso(judged.at_ms)}  cut {judged.partition}/{judged.number}  {outcome}")
    for why in judged.why:
        say(f"    {why}")


def _end(manifest: "Manifest", tally: "Tally", seconds: float, json: bool) -> None:
    from pipeline.replay.compare import Outcome

    count = tally.outcomes
    if json:
        emit(
            {
                "cuts": tally.compared,
                "equal": count[Outcome.EQUAL],
                "different": count[Outcome.DIFFERENT],
                "inputs_incomplete": count[Outcome.INPUTS_INCOMPLETE],
                "without_epoch": count[Outcome.WITHOUT_EPOCH],
                "other_code": count[Outcome.OTHER_CODE],
                "lead_in": tally.lead_in,
                "ignored": tally.ignored.count,
                "seconds": round(seconds, 3),
                "recorded_seconds": manifest.span_ms / 1000,
            }
        )
    else:
        say(f"{tally.compared:>8,} cuts compared")
        say(f"{count[Outcome.EQUAL]:>8,} equal")
        say(f"{count[Outcome.DIFFERENT]:>8,} different: the same inputs gave another result")
        say(f"{count[Outcome.INPUTS_INCOMPLETE]:>8,} with inputs that are no longer whole")
        _tell_others(tally)
        speed = manifest.span_ms / 1000 / max(seconds, 1e-3)
        note(f"{manifest.span_ms / 1000:.1f} s in {seconds:.1f} s: {speed:.0f} times real time")
    if not tally.compared:
        note("nothing could be compared: no Epoch of this code version closes any of these cuts")


def _tell_others(tally: "Tally") -> None:
    """What was not compared, where there is any."""
    from pipeline.replay.compare import Outcome

    for number, text in (
        (tally.lead_in, "of the lead-in, folded only (--lead-in compares them)"),
        (tally.outcomes[Outcome.WITHOUT_EPOCH], "without an Epoch, folded only"),
        (tally.outcomes[Outcome.OTHER_CODE], "of another code version, folded only"),
        (tally.ignored.count, "that do not count (fencing)"),
    ):
        if number:
            say(f"{number:>8,} {text}")
