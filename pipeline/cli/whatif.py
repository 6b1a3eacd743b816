"""`edgesteer whatif`: the same cuts with a change, and what it would have done."""

import os
import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import JsonOption, note, parse_time_ms, progress_line
from pipeline.cli.shown import HtmlOption, TopOption, show
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.replay.archive import Recording
    from pipeline.replay.fold import Change

_FACTOR = re.compile(r"x(\d+(?:\.\d+)?)")
_MED_MAX = 2**32 - 1


def command(
    file: Annotated[Path, typer.Argument(help="A recording.")],
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SITE|APPLIANCE|LINK", help="As if it had failed at --from. Several: again."
        ),
    ] = None,
    drain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SITE|REGION", help="As if taken out of service at --from. Several: again."
        ),
    ] = None,
    demand: Annotated[
        str | None, typer.Option(metavar="x1.3", help="All plays' bytes times this, all along.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another setting, all along."),
    ] = None,
    med: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SITE:PEER=VALUE", help="Another MED of what SITE hears from PEER, at --from."
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Unset: where the recording's lead-in ends."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Compare then; unset: at the end.")
    ] = None,
    html: HtmlOption = None,
    top: TopOption = 20,
    json: JsonOption = False,
) -> None:
    """Fold a recording as it was and with a change; print what differs at --at, and what would have
    been too much for the plane at any moment from --from on.

    Changes combine. TIME is ISO 8601, or before the end of the recording: -40s. It is an open loop:
    the recorded viewers do not react. Status 1 when the change makes an overload or leaves demand
    unserved that was served: "may I take this site out?" in a script. `edgesteer drain --dry-run`
    asks that of a running plane.
    """
    os.environ["RUST_BACKTRACE"] = "0"  # bad input makes polars' reader panic (caught): a line each
    from pipeline.replay.archive import Recording
    from pipeline.replay.watch import moment_of
    from pipeline.replay.whatif import begins_ms, what_if

    factor = _factor(demand)
    with Recording(file) as recording:
        at_ms = moment_of(recording, until or "", parse_time_ms)
        from_ms = begins_ms(recording)
        if since is not None:
            from_ms = moment_of(recording, since, parse_time_ms)
        if from_ms >= at_ms:
            raise UsageError("--from must lie before --at: nothing would be compared")
        changes = _changes(recording, without or [], factor, settings or [], med or [], from_ms)
        changes += _drained(recording, drain or [], from_ms)
        if factor is not None:
            _warn_of_window(recording, from_ms)
        if not changes:
            note("nothing is changed: say --without, --drain, --demand, --set or --med")
        done, total = 0, 2 * sum(cell.cuts for cell in recording.manifest.cells)
        with progress_line("cuts") as progress:

            def advance() -> None:
                nonlocal done
                done += 1
                progress(done, total)

            what = _words(without or [], drain or [], demand, settings or [], med or [])
            found = what_if(recording, changes, what, from_ms, at_ms, advance)
    show(found.diff, top, html, found, json=json)
    raise typer.Exit(1 if found.harms else 0)


def _warn_of_window(recording: "Recording", from_ms: int) -> None:
    """A recording that begins with a snapshot begins with demand as it was."""
    from pipeline.replay.fold import configs_of

    window_ms = max(one.inputs.demand_window_ms for one in configs_of(recording).values())
    lead_ms = min(
        (from_ms - cell.first_at_ms for cell in recording.manifest.cells if cell.snapshot_cut),
        default=window_ms,
    )
    if lead_ms < window_ms:
        note(
            f"the recording begins {lead_ms / 1000:.0f} s before --from, with demand as it was: "
            f"only {window_ms / 1000:.0f} s after its beginning is the demand that is looked at "
            "changed as a whole; a later --from avoids that"
        )


def _words(
    without: list[str],
    drain: list[str],
    demand: str | None,
    settings: list[str],
    med: list[str],
) -> str:
    """What is changed, as it was asked for."""
    told = [f"without {', '.join(without)}"] if without else []
    told += [f"with {', '.join(drain)} out of service"] if drain else []
    told += [f"with demand {demand}"] if demand else []
    told += [f"with {', '.join(settings)}"] if settings else []
    told += [f"with MED {', '.join(med)}"] if med else []
    return " and ".join(told) or "with nothing changed"


def _factor(text: str | None) -> Fraction | None:
    """`x1.3` as it is written, exactly."""
    from pipeline.replay.changes import FACTOR_PART_MAX

    if text is None:
        return None
    match = _FACTOR.fullmatch(text)
    factor = Fraction(match[1]) if match else None
    if factor is None or max(factor.numerator, factor.denominator) > FACTOR_PART_MAX:
        raise UsageError(f"--demand {text}: write it as x1.3, with at most six figures")
    return factor


def _changes(
    recording: "Recording",
    without: list[str],
    factor: Fraction | None,
    settings: list[str],
    med: list[str],
    from_ms: int,
) -> "list[Change]":
    """Every change that was asked for; UsageError for names that the recording does not have."""
    from pipeline.replay.changes import Failed, LostLinks, OtherMed, Scaled, Settings
    from pipeline.replay.whatif import names_of

    changes: list[Change] = []
    if settings:
        changes.append(Settings(settings))
    if without or med:
        names = names_of(recording, sessions=bool(med))
        names.check(without)
        failing = [name for name in without if name in names.sites | names.appliances]
        links = [name for name in without if name in names.links]
        if failing:
            changes.append(Failed(failing, failing, from_ms))
        if links:
            changes.append(LostLinks(links, from_ms))
        for text in med:
            session, _, value = text.rpartition("=")
            site, peer = names.session(session)
            changes.append(OtherMed(site, peer, _med(text, value), from_ms))
    if factor is not None:
        changes.append(Scaled(factor))
    return changes


def _drained(recording: "Recording", names: list[str], from_ms: int) -> "list[Change]":
    """What is taken out of service; a name that a site and a region have means both."""
    from pipeline.replay.changes import Drained
    from pipeline.replay.whatif import names_of

    if not names:
        return []
    there = names_of(recording, sessions=False)
    there.check_places(names)
    return [Drained(there.sites & set(names), there.regions & set(names), from_ms)]


def _med(text: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) <= _MED_MAX):
        raise UsageError(f"--med {text}: write it as SITE:PEER=VALUE, VALUE from 0 to {_MED_MAX}")
    return int(value)
