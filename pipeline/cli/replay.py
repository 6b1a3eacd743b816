"""`edgesteer replay`: fold a recording again, compare it with what was published, publish it."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import (
    FindBroker,
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
from pipeline.cli.logfile import fetched_log
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings
    from pipeline.replay.archive import Recording
    from pipeline.replay.compare import Judged, Tally
    from pipeline.replay.into import Pace
    from pipeline.replay.manifest import Manifest
    from pipeline.replay.watch import Watch

#: Cuts that a person is told of one by one.
TOLD_MAX = 20


@may_take_broker
def command(
    broker: FindBroker,
    file: Annotated[
        Path | None, typer.Argument(help="A recording; without one the broker's whole log.")
    ] = None,
    lead_in: Annotated[
        bool, typer.Option("--lead-in", help="Compare the cuts before the recording's --from too.")
    ] = False,
    into: Annotated[
        str | None,
        typer.Option(
            "--into", metavar="PREFIX.", help="Publish what comes of it to topics under PREFIX."
        ),
    ] = None,
    speed: Annotated[
        str | None,
        typer.Option(
            metavar="N|max", help="With --into: so many times as fast as it was; unset 1."
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="VIEW", help="Save what had been decided, for `edgesteer diff`."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With --save: when; unset: at the end."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Fold a recorded log again and compare every cut with the Epoch that closed it.

    Status 1 unless every cut that was compared is equal. Nothing is written to any topic, unless
    --into says where, and never to a live one: it makes topics of its own on the broker, which
    other commands read with --topics PREFIX.

    --save writes a view for `edgesteer diff`: what was decided at a moment, as this version decides
    it. TIME is ISO 8601, or before the end of the recording: -40s.
    """
    if at is not None and save is None:
        raise UsageError("--at says when the view is taken that --save writes")
    work = _work(broker, file, into, speed, save, at)
    os.environ["RUST_BACKTRACE"] = "0"  # bad input makes polars' reader panic (caught): a line each
    from pipeline.replay.archive import Recording
    from pipeline.replay.compare import Tally

    with ExitStack() as stack:
        if file is None:
            file = stack.enter_context(fetched_log(broker()))
        recording = stack.enter_context(Recording(file))
        tally, seconds = Tally(compare_lead_in=lead_in), time.perf_counter()
        written = work(recording, tally, json)
        _end(recording.manifest, tally, time.perf_counter() - seconds, written, json)
    if not tally.all_equal:
        raise typer.Exit(1)


def _work(
    broker: FindBroker,
    file: Path | None,
    into: str | None,
    speed: str | None,
    save: Path | None,
    at: str | None,
) -> "Callable[[Recording, Tally, bool], dict[str, int]]":
    """What is to be done with the recording; it returns the records written by topic. Raises
    UsageError for what does not go together, before anything is read."""
    if into is None:
        if speed is not None:
            raise UsageError("--speed says how fast --into publishes; without it nothing waits")
        if file is not None and broker.named:
            raise UsageError(
                f"{file} is folded without a broker: leave the broker's options out, or leave FILE "
                "out to fold the broker's log, or say with --into PREFIX. where to publish"
            )
        return _fold if save is None else partial(_fold_and_save, save, at)
    if save is not None:
        raise UsageError("--save and --into do not go together: replay once for each")
    from pipeline.broker.isolated import isolated_prefix

    prefix, pace = isolated_prefix(into), _pace(speed)  # these need no broker to be refused
    return partial(_publish, broker(), prefix, pace)


def _pace(speed: str | None) -> "Pace":
    from pipeline.replay.into import Pace

    if speed == "max":
        return Pace(None)
    try:
        times = 1.0 if speed is None else float(speed)
    except ValueError:
        times = 0.0
    if not 0 < times < float("inf"):
        raise UsageError(f"--speed {speed}: a number above 0, like 1, 0.5 or 60, or max")
    return Pace(times)


def _fold(
    recording: "Recording", tally: "Tally", json: bool, watch: "Watch | None" = None
) -> dict[str, int]:
    """Fold and compare; nothing is written."""
    from pipeline.replay.compare import replay
    from pipeline.replay.fold import unchanged

    with _telling(recording, tally, json) as tell:
        for judged in replay(recording, tally, watch or unchanged):
            tell(judged)
    return {}


def _fold_and_save(
    save: Path, at: str | None, recording: "Recording", tally: "Tally", json: bool
) -> dict[str, int]:
    """The same, and the view of a moment into a file."""
    from pipeline.replay.viewfile import save_view
    from pipeline.replay.watch import Watch, moment_of

    moment = moment_of(recording, at or "", parse_time_ms)
    watch = Watch([moment])
    written = _fold(recording, tally, json, watch)
    view = watch.view(moment, f"{recording.path.name}{f'@{at}' if at else ''}")
    save_view(view, save)
    note(f"{save}: what had been decided by {iso(view.at_ms)}")
    return written


def _publish(
    broker: "BrokerSettings",
    prefix: str,
    pace: "Pace",
    recording: "Recording",
    tally: "Tally",
    json: bool,
) -> dict[str, int]:
    """Fold, publish and compare; topic -> records written."""
    from pipeline.replay.compare import Judge
    from pipeline.replay.into import replay_into

    judges = {span.partition: Judge(recording, span) for span in recording.manifest.cells}
    with _telling(recording, tally, json) as tell:
        return run_async(
            replay_into(
                recording,
                broker,
                prefix,
                pace,
                tally.ignored,
                lambda step: tell(judges[step.cut.partition](step)),
            )
        )


@contextmanager
def _telling(
    recording: "Recording", tally: "Tally", json: bool
) -> "Iterator[Callable[[Judged], None]]":
    """A function to be given every cut that was judged: it keeps the account, moves the progress
    and tells of those that are not equal."""
    from pipeline.replay.compare import Outcome

    total, done, told = sum(cell.cuts for cell in recording.manifest.cells), 0, 0
    with progress_line("cuts") as progress:

        def tell(judged: "Judged") -> None:
            nonlocal done, told
            done += 1
            progress(done, total)
            compared = tally.add(judged)
            if compared and judged.outcome in (Outcome.DIFFERENT, Outcome.INPUTS_INCOMPLETE):
                told += 1
                if json or told <= TOLD_MAX:
                    _show(judged, json)

        yield tell
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


def _end(
    manifest: "Manifest",
    tally: "Tally",
    seconds: float,
    written: dict[str, int],
    json: bool,
) -> None:
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
                **({"written": written} if written else {}),
            }
        )
    else:
        say(f"{tally.compared:>8,} cuts compared")
        say(f"{count[Outcome.EQUAL]:>8,} equal")
        say(f"{count[Outcome.DIFFERENT]:>8,} different: the same inputs gave another result")
        say(f"{count[Outcome.INPUTS_INCOMPLETE]:>8,} with inputs that are no longer whole")
        _tell_others(tally)
        for topic, records in written.items():
            say(f"{records:>8,} records written to {topic}")
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
