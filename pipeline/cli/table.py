"""`edgesteer table`: the steering table, prefix by prefix."""

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.common import JsonOption, asks_broker, emit, note, run_async
from pipeline.cli.common import table as print_table
from pipeline.errors import UsageError, WireError
from schemas.registry import STEERING_GROUPS, STEERING_PREFIXES

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings
    from pipeline.follow.table import SteeringTable

_SHOWN = 50


@asks_broker
def command(
    broker: "BrokerSettings",
    prefix: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="Only this prefix and those inside it.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help=f"So many; unset {_SHOWN}, with --json all.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Each prefix with its group and the sites that serve it. Status 1: there is none.

    With --json, `shares` are ten-thousandths for vod, live and game.
    """
    from pipeline.cli.answers import warn_of_mixture
    from pipeline.follow.follower import snapshot
    from pipeline.wire.address import parse_prefix

    try:
        inside = None if prefix is None else parse_prefix(prefix)
    except WireError as error:
        raise UsageError(f"--prefix {prefix}: {error.detail}") from None
    held = run_async(snapshot(broker))
    warn_of_mixture(held)
    entries = [
        (partition, key, value)
        for partition, key, value in held.items(STEERING_PREFIXES.name)
        if inside is None or _is_inside(key, inside)
    ]
    if not entries:
        note("the table is empty" if inside is None else f"the table has nothing inside {prefix}")
        raise typer.Exit(1)
    most = limit if limit is not None else None if json else _SHOWN
    shown = (_entry(held, *each) for each in islice(entries, most))
    if json:
        for entry in shown:
            emit(entry)
    else:
        header = ["prefix", "region", "group", "sites: vod live game %"]
        print_table(header, [_row(entry) for entry in shown])
    if most is not None and len(entries) > most:
        note(f"{len(entries) - most} more of {len(entries)} prefixes; --limit N shows more")


def _is_inside(key: bytes, prefix: bytes) -> bool:
    first, length = prefix[:16], prefix[16]
    last = int.from_bytes(first, "big") | ((1 << (128 - length)) - 1)
    return key[16] >= length and first <= key[:16] <= last.to_bytes(16, "big")


def _entry(held: "SteeringTable", partition: int, key: bytes, value: bytes) -> dict[str, Any]:
    from pipeline.follow.lookup import group_id_of, group_of
    from pipeline.wire.address import format_prefix

    group, region = group_id_of(value), key[17:]
    cell = held.cell(partition)
    ranked = cell.records[STEERING_GROUPS.name].get(group + region)
    sites = () if ranked is None else group_of(ranked).sites
    return {
        "prefix": format_prefix(key[:17]),
        "region": region.decode(errors="replace"),
        "group": group.hex(),
        "cut": cell.cut,
        "sites": [{"site": each.site, "shares": list(each.shares)} for each in sites],
    }


def _row(entry: dict[str, Any]) -> list[str]:
    serving = [
        f"{each['site']} {' '.join(f'{share / 100:g}' for share in each['shares'])}"
        for each in entry["sites"]
        if any(each["shares"])
    ]
    return [entry["prefix"], entry["region"], entry["group"], ", ".join(serving) or "-"]
