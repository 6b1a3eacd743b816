"""`edgesteer drain` and `edgesteer undrain`: a site or region out of service, and back."""

import sys
import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.common import (
    JsonOption,
    emit,
    iso,
    note,
    parse_duration_ms,
    parse_time_ms,
    progress_line,
    run_async,
    say,
    si,
    takes_broker,
)
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings
    from pipeline.feeds.drains import Standing, Target
    from pipeline.replay.whatif import WhatIf

Action = Literal["DRAIN", "UNDRAIN"]

NameArgument = Annotated[str, typer.Argument(metavar="SITE|REGION", help="By its id.")]
ByOption = Annotated[
    str,
    typer.Option(
        "--by", metavar="TIME", help="From now (10m), ISO 8601, or `now`: all of it at once."
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it, without preview and question.")]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Preview only; status 1 when it would do harm or leave a rest."),
]
TopOption = Annotated[int, typer.Option("--top", min=1, help="So many rows of each table.")]


@takes_broker
def command(
    broker: "BrokerSettings",
    name: NameArgument,
    by: ByOption = "10m",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    top: TopOption = 10,
    json: JsonOption = False,
) -> None:
    """Take a site, or all sites of a region, out of service by a deadline, evenly until then.

    Shows first what that would do: traffic that moves and where to, overloads, what nobody could
    serve; then asks. Clients that no other site can serve stay. `edgesteer undrain` takes it back,
    at any time. Appliances are not told: to have simulated ones report DRAINING, `edgesteer sim
    drain`.
    """
    _order(broker, "DRAIN", name, by, yes=yes, dry_run=dry_run, top=top, json=json)


@takes_broker
def undrain(
    broker: "BrokerSettings",
    name: NameArgument,
    by: ByOption = "10m",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    top: TopOption = 10,
    json: JsonOption = False,
) -> None:
    """Put back into service what `edgesteer drain` took out, evenly until a deadline.

    Shows first what that would do, and asks. A drain that is under way is undone from where it is.
    """
    _order(broker, "UNDRAIN", name, by, yes=yes, dry_run=dry_run, top=top, json=json)


def _order(
    broker: "BrokerSettings",
    action: Action,
    name: str,
    by: str,
    *,
    yes: bool,
    dry_run: bool,
    top: int,
    json: bool,
) -> None:
    from pipeline.feeds.drains import find_target, standing
    from pipeline.feeds.inventory import read_inventory

    if yes and dry_run:
        raise UsageError("--yes does it and --dry-run does not: say one of them")
    if json and not (yes or dry_run):
        raise UsageError("--json asks nothing: say --yes or --dry-run")
    _deadline_ms(by, _now_ms())  # a mistake is told before anything is read
    current = run_async(read_inventory(broker))
    target = find_target(current, name)
    orders = list(standing(current))
    if _is_so(target, action, orders):
        word = "out of" if action == "DRAIN" else "in"
        note(f"{target.entity} is {word} service already: nothing was published")
        if json:
            emit(_told(target, action, None))
        return
    if action == "UNDRAIN":
        _warn_of_region(target, orders)
    if not yes:
        harmless = _preview(broker, target, action, top, json=json)
        if dry_run:
            raise typer.Exit(0 if harmless else 1)
        _ask(target, action, by)
    deadline_ms = run_async(_publish(broker, target, action, by))
    if json:
        emit(_told(target, action, deadline_ms))
        return
    back = "undrain" if action == "DRAIN" else "drain"
    doing = "drains" if action == "DRAIN" else "comes back"
    when = f"until {iso(deadline_ms)}" if deadline_ms > _now_ms() else "at once"
    say(f"{target.entity} {doing} {when}. `edgesteer {back} {target.entity}` undoes it;")
    say("`edgesteer verdicts` shows what becomes of it, `edgesteer fleet show` what was ordered.")


def _is_so(target: "Target", action: Action, orders: "list[Standing]") -> bool:
    """Whether the order was given before, and its deadline is over; or there is none to undo."""
    mine = [one for one in orders if one.target.key == target.key]
    if not mine:
        return action == "UNDRAIN"
    return mine[0].action == action and mine[0].over(_now_ms())


def _warn_of_region(target: "Target", orders: "list[Standing]") -> None:
    for one in orders:
        drained = one.action == "DRAIN" and one.target.scope == "region"
        if drained and target.scope == "site" and one.target.entity == target.region:
            note(f"{target.entity} stays out as long as its region {target.region} is drained")


def _preview(
    broker: "BrokerSettings", target: "Target", action: Action, top: int, *, json: bool
) -> bool:
    """Show what would be; whether nothing is the worse for it, and nobody stays."""
    from pipeline.cli.shown import show
    from pipeline.replay.changes import Drained
    from pipeline.replay.preview import LOOK_BACK_MS, preview

    now_ms = _now_ms()
    names = {
        scope: [target.entity] if target.scope == scope else [] for scope in ("site", "region")
    }
    change = Drained(names["site"], names["region"], now_ms - LOOK_BACK_MS, action)
    with progress_line("records, then cuts") as progress:
        found = run_async(preview(broker, change, (target.region, *target.also), now_ms, progress))
    show(found.diff, top, None, found, json=json)
    left = _left_bps(found, target) if action == "DRAIN" else 0
    if left:
        note(f"{si(left, 'bps')} would stay: no other site can serve these clients.")
    return not (found.harms or left)


def _left_bps(found: "WhatIf", target: "Target") -> int:
    """Load that would stay where nothing is admitted any more."""
    sites = found.diff.sites
    if target.scope == "site":
        sites = sites.filter(sites.get_column("site") == target.entity)
    return int(sites.filter(sites.get_column("serves_b") == "NONE").get_column("load_bps_b").sum())


def _ask(target: "Target", action: Action, by: str) -> None:
    if not sys.stdin.isatty():
        note("not done: there is no terminal to ask; --yes does it")
        raise typer.Exit(1)
    what = "Take" if action == "DRAIN" else "Put"
    where = "out of service" if action == "DRAIN" else "back into service"
    when = "at once" if by == "now" else f"by {iso(_deadline_ms(by, _now_ms()))}"
    if not typer.confirm(f"{what} {target.scope} {target.entity} {where} {when}?", err=True):
        note("nothing was done")
        raise typer.Exit(1)


async def _publish(broker: "BrokerSettings", target: "Target", action: Action, by: str) -> int:
    from pipeline.feeds.drains import ordered
    from pipeline.feeds.inventory import publish_changes
    from pipeline.feeds.publisher import Publisher

    async with Publisher(broker) as publisher:
        now_ms = _now_ms()
        deadline_ms = _deadline_ms(by, now_ms)
        await publish_changes(publisher, ordered(target, action, now_ms, deadline_ms))
    return deadline_ms


def _deadline_ms(by: str, now_ms: int) -> int:
    """`10m` from now, `now`, or a time. UsageError."""
    if by[:1].isdigit() and "-" not in by:
        return now_ms + parse_duration_ms(by)
    return parse_time_ms(by, now_ms)


def _told(target: "Target", action: Action, deadline_ms: int | None) -> dict[str, object]:
    return {
        "kind": "drain",
        "action": action.lower(),
        "scope": target.scope,
        "entity": target.entity,
        "region": target.region,
        "deadline": None if deadline_ms is None else iso(deadline_ms),
        "published": deadline_ms is not None,
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
