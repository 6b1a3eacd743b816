"""`edgesteer groups`: the ranked sites and shares that prefixes point to."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.common import (
    JsonOption,
    asks_broker,
    bold,
    emit,
    note,
    run_async,
    say,
    table,
)

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings

_SHOWN = 20


@asks_broker
def command(
    broker: "BrokerSettings",
    group: Annotated[str | None, typer.Argument(help="Only this one: 16 hex digits.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help=f"So many; unset {_SHOWN}, with --json all.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Groups: ranked sites, the share of each by class, and why. Status 1: no such group."""
    from itertools import islice

    from pipeline.cli.render import plain
    from pipeline.follow.follower import snapshot
    from pipeline.wire.decode import decode
    from schemas.registry import STEERING_GROUPS

    held = run_async(snapshot(broker, [STEERING_GROUPS.name]))
    wanted = [
        (held.cell(partition).cut, value)
        for partition, key, value in held.items(STEERING_GROUPS.name)
        if group is None or key[:8].hex() == group.lower()
    ]
    if not wanted:
        note("there are no groups yet" if group is None else f"no group {group}")
        raise typer.Exit(1)
    most = limit if limit is not None else None if json else _SHOWN
    for cut, value in islice(wanted, most):
        entry = plain(*decode(value))
        if json:
            emit({"cut": cut, **entry})
        else:
            _tell(cut, entry)
    if most is not None and len(wanted) > most:
        note(f"{len(wanted) - most} more of {len(wanted)} groups; --limit N shows more")


def _tell(cut: int, entry: dict[str, Any]) -> None:
    from pipeline.cli.answers import percent

    say(f"{bold(entry['group'])} in {entry['region']}, cut {cut}")
    rows = []
    for rank, site in enumerate(entry["sites"], 1):
        keys = [site["tier"], site["as_path_len"], site["med"], site["rtt_ms"], site["distance_km"]]
        figures = ["-" if each is None else each for each in keys]
        rows.append([rank, site["site"], *map(percent, site["shares"]), *figures])
    header = ["rank", "site", "vod", "live", "game", "tier", "AS path", "MED", "RTT ms", "km"]
    table(header, rows, right="r rrrrrrrr")
    for passed in entry["passed_over"]:
        say(f"{passed['traffic_class'].lower()}: {passed['site']} passed over, {passed['reason']}")
    say()
